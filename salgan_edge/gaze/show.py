"""What a packed folder holds, of gaze or of texts with boxes, with every file read once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from salgan_edge.console import text_table
from salgan_edge.errors import DataError, ImageError
from salgan_edge.gaze.folder import SPLIT_ID, SPLITS, DatasetInfo, GazeFolder, Problems, photos
from salgan_edge.gaze.phrases import PhraseSet
from salgan_edge.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from salgan_edge.gaze.folder import GazePair
    from salgan_edge.gaze.phrases import Phrase

    Progress = Callable[[Sequence[Any]], Iterable[Any]]

__all__ = ["GazeContents", "GazePart", "PhraseContents", "PhrasePart", "contents", "packed_parts"]

_EXAMPLES = 2
"""Texts shown of each condition or kind."""

_KINDS = 8
"""So many kinds are shown."""

_AREAS = (("up to 1 %", 0.01), ("1 to 10 %", 0.1), ("10 to 50 %", 0.5), ("above 50 %", 1.0))
"""Classes of the share of the photo that a text's boxes cover, each up to its number."""


@dataclass(frozen=True)
class GazePart:
    """One split, or all of them."""

    photos: int
    pairs: int
    """Photos times viewing conditions."""
    conditions: dict[str, int]
    """Pairs by condition."""
    fixations: int
    pairs_with_fixations: int
    pairs_with_maps: int
    """Pairs with a published map; the others' maps are blurred fixations."""


@dataclass(frozen=True)
class GazeContents:
    """A packed folder in figures."""

    folder: str
    name: str
    licence: str
    source: str
    blur_degree_share: float
    """Standard deviation of blurred fixations as a share of the width."""
    split: str
    """Rule of the splits."""
    all: GazePart
    splits: dict[str, GazePart]
    texts: dict[str, list[str]]
    """Examples by condition."""
    problems: list[str]
    """What is wrong with the files, a line for each kind; empty: all of them can be used."""

    def to_text(self) -> str:
        """The figures for people, in lines of up to about 120 characters."""
        conditions = list(self.all.conditions)
        lines = _head(
            self,
            ["photos", "pairs", *conditions, "fixations"],
            {
                label: [
                    part.photos,
                    part.pairs,
                    *(part.conditions.get(c, 0) for c in conditions),
                    part.fixations,
                ]
                for label, part in {**self.splits, "all": self.all}.items()
            },
        )
        pairs, drawn, watched = self.all.pairs, self.all.pairs_with_maps, self.all.pairs_with_fixations
        blurred = f"; the others are fixations blurred by {self.blur_degree_share:.3f} of the width"
        lines.append(f"published maps: {drawn} of {pairs} pairs" + (blurred if drawn < pairs else ""))
        if watched < pairs:
            lacking = [name for name, metric in METRICS.items() if metric.needs]
            lines.append(f"fixations: {watched} of {pairs} pairs; no {', '.join(lacking)} for the others")
        lines += [f"{condition}: " + " | ".join(texts) for condition, texts in self.texts.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class PhrasePart:
    """One split, or all of them."""

    photos: int
    rows: int
    wordings: int
    """Texts of all rows."""
    distinct: int
    """Different texts among them."""
    boxes: int
    kinds: dict[str, int]
    """Rows by kind."""


@dataclass(frozen=True)
class PhraseContents:
    """A folder of texts with boxes in figures."""

    folder: str
    name: str
    licence: str
    source: str
    split: str
    """Rule of the splits."""
    all: PhrasePart
    splits: dict[str, PhrasePart]
    areas: dict[str, int]
    """Rows by the share of the photo that their boxes cover, and those without a box."""
    unnamed: int
    """Photos in ``images/`` of which nothing is said."""
    texts: dict[str, list[str]]
    """Examples by kind."""
    problems: list[str]
    """What is wrong with the files, a line for each kind; empty: all of them can be used."""

    def to_text(self) -> str:
        """The figures for people, in lines of up to about 120 characters."""
        lines = _head(
            self,
            ["photos", "rows", "wordings", "distinct", "boxes"],
            {
                label: [part.photos, part.rows, part.wordings, part.distinct, part.boxes]
                for label, part in {**self.splits, "all": self.all}.items()
            },
        )
        lines.append("rows by the share of the photo in their boxes: " + _counts(self.areas))
        if self.unnamed:
            lines.append(f"photos without a text: {self.unnamed}")
        lines.append("rows by kind: " + _counts(self.all.kinds))
        lines += [f"{kind}: " + " | ".join(texts) for kind, texts in list(self.texts.items())[:_KINDS]]
        return "\n".join(lines)


def packed_parts(folder: Path) -> list[GazeFolder | PhraseSet]:
    """What a packed folder is: of gaze, of texts with boxes, or both.

    Raises:
        DataError: it is neither, or a table of it cannot be used.
    """
    of_phrases = (folder / "phrases.csv").is_file()
    parts: list[GazeFolder | PhraseSet] = [PhraseSet(folder)] if of_phrases else []
    if (folder / "pairs.csv").is_file() or not of_phrases:
        parts.insert(0, GazeFolder(folder))
    return parts


def contents(
    part: GazeFolder | PhraseSet, progress: Progress = lambda items: items, *, check: bool = True
) -> GazeContents | PhraseContents:
    """Count what is there and read every photo and map.

    Args:
        part: a packed folder, whose table was checked when it was read.
        progress: wraps the list of photos, to show progress.
        check: read the photos and maps; else they are counted only.
    """
    if isinstance(part, GazeFolder):
        return _gaze_contents(part, progress, check=check)
    return _phrase_contents(part, progress, check=check)


def _head(
    found: GazeContents | PhraseContents, columns: Sequence[str], rows: Mapping[str, Sequence[int]]
) -> list[str]:
    """Name, terms, the table of figures by split, and the rule of the splits."""
    about = "; ".join(part for part in (found.licence, found.source) if part)
    table = text_table(
        [("", 12), *((column, 12) for column in columns)], [(label, *row) for label, row in rows.items()]
    )
    return [
        f"{found.folder}: {found.name}" + (f" ({about})" if about else ""),
        "",
        *table,
        "",
        f"splits: {found.split}",
    ]


def _counts(numbers: Mapping[str, int]) -> str:
    """Numbers by name on one line, the first few."""
    shown = [f"{name}: {number}" for name, number in numbers.items()]
    return ", ".join(shown[:_KINDS]) + (f" and {len(shown) - _KINDS} more" if len(shown) > _KINDS else "")


def _gaze_contents(folder: GazeFolder, progress: Progress, *, check: bool) -> GazeContents:
    problems = Problems()
    for group in progress(list(photos(folder.pairs).values())) if check else ():
        _check_photo(folder, group, problems)
    texts: dict[str, list[str]] = {}
    for pair in folder.pairs:
        examples = texts.setdefault(pair.condition, [])
        if pair.text and len(examples) < _EXAMPLES:
            examples.append(pair.text)
    return GazeContents(
        folder=str(folder.folder),
        name=folder.info.name or folder.name,
        licence=folder.info.licence,
        source=folder.info.source,
        blur_degree_share=folder.info.blur_degree_share,
        split=folder.split_id,
        all=_gaze_part(folder, folder.pairs),
        splits={split: _gaze_part(folder, folder.select(split)) for split in SPLITS},
        texts={condition: examples for condition, examples in texts.items() if examples},
        problems=problems.lines(),
    )


def _check_photo(folder: GazeFolder, group: Sequence[GazePair], problems: Problems) -> None:
    first = group[0]
    try:
        height, width = folder.image(first.image).shape[:2]
    except ImageError:
        problems.add("images that cannot be read", first.image)
    else:
        if _other_shape((width, height), first):
            problems.add("images of another shape than width and height say", first.image)
    for pair in group:
        try:
            height, width = folder.saliency_map(pair).shape
        except DataError:
            problems.add("maps that are unreadable or empty", pair.key)
        else:
            if _other_shape((width, height), pair):
                problems.add("maps of another shape than width and height say", pair.key)


def _other_shape(size: tuple[int, int], pair: GazePair) -> bool:
    """Whether a shrunk image has other proportions than its photo, beyond rounding to whole pixels."""
    width, height = size
    # Each side is off by less than a pixel.
    return abs(width * pair.height - height * pair.width) > pair.width + pair.height


def _gaze_part(folder: GazeFolder, pairs: Sequence[GazePair]) -> GazePart:
    conditions = Counter(pair.condition for pair in pairs)
    counts = np.array([len(folder.fixations(pair)) for pair in pairs], int)
    return GazePart(
        photos=len(photos(pairs)),
        pairs=len(pairs),
        conditions=dict(sorted(conditions.items())),
        fixations=int(counts.sum()),
        pairs_with_fixations=int((counts > 0).sum()),
        pairs_with_maps=sum(folder.has_map(pair) for pair in pairs),
    )


def _phrase_contents(folder: PhraseSet, progress: Progress, *, check: bool) -> PhraseContents:
    problems = Problems()
    for photo in progress(list(folder.select())) if check else ():
        try:
            folder.image(photo)
        except ImageError:
            problems.add("images that cannot be read", photo.split("/", 1)[1])
    areas = dict.fromkeys(["no box", *(label for label, _ in _AREAS)], 0)
    texts: dict[str, list[str]] = {}
    for phrase in folder.phrases:
        area = next(label for label, largest in _AREAS if phrase.area <= largest)
        areas[area if phrase.boxes else "no box"] += 1
        examples = texts.setdefault(phrase.kind, [])
        if len(examples) < _EXAMPLES and phrase.texts[0] not in examples:
            examples.append(phrase.texts[0])
    info = DatasetInfo.read(folder.table.parent / "dataset.json")
    named = folder.select()
    return PhraseContents(
        folder=str(folder.table.parent),
        name=info.name or folder.name,
        licence=info.licence,
        source=info.source,
        split="given in phrases.csv" if folder.given else SPLIT_ID,
        all=_phrase_part(folder.phrases),
        splits={
            split: _phrase_part([phrase for phrases in folder.select(split).values() for phrase in phrases])
            for split in SPLITS
        },
        areas=areas,
        unnamed=len(folder.split) - len(named),
        texts=texts,
        problems=problems.lines(),
    )


def _phrase_part(phrases: Sequence[Phrase]) -> PhrasePart:
    kinds = Counter(phrase.kind for phrase in phrases)
    return PhrasePart(
        photos=len({phrase.photo for phrase in phrases}),
        rows=len(phrases),
        wordings=sum(len(phrase.texts) for phrase in phrases),
        distinct=len({text for phrase in phrases for text in phrase.texts}),
        boxes=sum(len(phrase.boxes) for phrase in phrases),
        kinds=dict(sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))),
    )
