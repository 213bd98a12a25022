"""Texts with boxes: what a text names in a photo, and where that is.

Two tables are read. ``labels.csv`` has the columns ``set, image, kind, texts, boxes``: several
wordings of the same thing, separated by `` / ``, on photos of several sets. ``phrases.csv`` of a
single folder has ``image, phrase, boxes, kind``. Boxes are ``x0,y0,x1,y1`` in shares of the photo's
width and height, several separated by ``;``, one for each instance that the text names; no box means
that the whole photo shows it.

Splits follow the photos, not the texts. A photo of a gaze folder has its split there. A photo that
occurs in several sets (twelve digits are COCO's number of a photo, whatever the set) has one split,
and a gaze folder's comes first. Then comes the optional column ``split`` (``train``, ``validation``,
``test`` or empty) of either table, and last the rule for all other photos.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from salgan_edge.errors import DataError
from salgan_edge.gaze.folder import (
    IMAGE_SUFFIXES,
    SPLITS,
    files_by_stem,
    read_rows,
    split_names,
    split_photos,
)
from salgan_edge.images import read_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

__all__ = [
    "LABEL_COLUMNS",
    "PHRASE_COLUMNS",
    "Box",
    "Phrase",
    "PhraseSet",
    "format_boxes",
    "mirrored",
    "parse_boxes",
    "wordings",
]

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in shares of the photo's width and height, 0..1."""

LABEL_COLUMNS = ("set", "image", "kind", "texts", "boxes")
PHRASE_COLUMNS = ("image", "phrase", "boxes", "kind")
_COCO_NUMBER = re.compile(r"\d{12}")
_BETWEEN_WORDINGS = re.compile(r"(?:^|\s)/(?=\s|$)")
_EXPECTED = "one for each text of a photo was expected"
_SHOWN = 3
"""Problems that a message names."""
_SIDES = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
_SIDE = re.compile(r"\b(?:[Ll]eft|[Rr]ight)\b")


@dataclass(frozen=True)
class Phrase:
    """Wordings that name the same things in one photo."""

    photo: str
    """Set and photo without suffix, ``osie/1002``."""
    kind: str
    """``noun``, ``attr`` (a noun with a property), ``rel`` (with a place or a relation), or a name of the set's own."""
    texts: tuple[str, ...]
    """Wordings, at least one."""
    boxes: tuple[Box, ...]
    """Every instance that the text names; empty where the whole photo shows it."""

    @property
    def area(self) -> float:
        """Share of the photo that the boxes cover; overlaps count twice, at most 1."""
        return min(1.0, sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in self.boxes)) if self.boxes else 1.0


class PhraseSet:
    """All texts of one table, with the photos' files and splits.

    Args:
        table: ``labels.csv``, or a folder with ``phrases.csv`` and ``images/``.
        data: folder that the sets of ``labels.csv`` lie in, ``DATA/SET/images`` or
            ``DATA/phrases/SET/images``; by default the table's folder or the one above it. Gaze
            folders in it also decide the split of photos that occur in several sets.

    Attributes:
        name: ``labels``, or the name of the folder.
        phrases: in the order of the table.
        split: ``train``, ``validation`` or ``test`` by photo.
        given: what the column ``split`` says, of the photos for which it says something.

    Raises:
        DataError: the table is missing or wrong, or a photo has no file; the message lists what is.
    """

    def __init__(self, table: Path, data: Path | None = None) -> None:
        self.table = table / "phrases.csv" if table.is_dir() else table
        rows = read_rows(self.table, _EXPECTED)
        columns = set(rows[0])
        if set(LABEL_COLUMNS) <= columns:
            self.name = self.table.stem
            keys = [(row["set"], row["image"], row["kind"], row["texts"], row["boxes"]) for row in rows]
        elif set(PHRASE_COLUMNS) <= columns:
            self.name = self.table.parent.name
            keys = [(self.name, row["image"], row["kind"], row["phrase"], row["boxes"]) for row in rows]
        else:
            raise DataError(
                f"{self.table} has the columns {', '.join(rows[0])}: {', '.join(LABEL_COLUMNS)} or {', '.join(PHRASE_COLUMNS)} were expected"
            )
        self._named = [data, data / "phrases"] if data is not None else []
        # Absolute, for a table in the current folder has no parents by name; the likeliest first.
        self._roots = list(dict.fromkeys((*self._named, *self.table.resolve().parents[:3])))
        self._files: dict[str, dict[str, Path]] = {}
        wrong: list[str] = []
        self.phrases: list[Phrase] = []
        self.given: dict[str, str] = {}
        for line, (key, row) in enumerate(zip(keys, rows, strict=True), 2):
            phrase = self._phrase(line, *key, wrong)
            if phrase is not None:
                self.phrases.append(phrase)
                self._give(line, phrase.photo, row.get("split", ""), wrong)
        if wrong:
            more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            raise DataError(f"{self.table} cannot be used: {'; '.join(wrong[:_SHOWN])}{more}")
        self.split = self._splits()

    def select(self, *splits: str) -> dict[str, list[Phrase]]:
        """Phrases by photo, of the photos in these splits; of all where none is named."""
        chosen: dict[str, list[Phrase]] = {}
        for phrase in self.phrases:
            if not splits or self.split[phrase.photo] in splits:
                chosen.setdefault(phrase.photo, []).append(phrase)
        return chosen

    def file(self, photo: str) -> Path:
        """The file of a photo, ``SET/NAME``."""
        name, image = photo.split("/", 1)
        return self._of_set(name)[image]

    def image(self, photo: str) -> npt.NDArray[np.uint8]:
        """A photo as RGB uint8 (H, W, 3)."""
        return read_image(self.file(photo))

    def _phrase(
        self, line: int, folder: str, image: str, kind: str, texts: str, boxes: str, wrong: list[str]
    ) -> Phrase | None:
        wordings = tuple(text.strip() for text in _BETWEEN_WORDINGS.split(texts) if text.strip())
        name = image if image in self._of_set(folder) else image.rpartition(".")[0]
        try:
            places = parse_boxes(boxes)
        except ValueError as error:
            wrong.append(f"line {line}: {error}")
            return None
        if not wordings:
            wrong.append(f"line {line} has no text")
        elif name not in self._of_set(folder):
            wrong.append(f"line {line}: no file of photo {folder}/{image}")
        else:
            return Phrase(f"{folder}/{name}", kind, wordings, places)
        return None

    def _give(self, line: int, photo: str, split: str, wrong: list[str]) -> None:
        """Note the split that a row gives its photo."""
        if split and split not in SPLITS:
            wrong.append(f"line {line}: split {split!r} is none of {', '.join(SPLITS)}")
        elif split and self.given.setdefault(photo, split) != split:
            wrong.append(f"line {line}: photo {photo} is in {split} and in {self.given[photo]}")

    def _of_set(self, name: str) -> dict[str, Path]:
        """Files of a set's photos by name without suffix."""
        if name not in self._files:
            self._files[name] = {}
            for root in self._roots:
                found = files_by_stem(root / name / "images", IMAGE_SUFFIXES)
                if found:
                    self._files[name] = {stem: files[-1] for stem, files in found.items()}
                    break
        return self._files[name]

    def _splits(self) -> dict[str, str]:
        by_number: dict[str, str] = {}
        for root in self._roots:
            for table in sorted(root.glob("*/pairs.csv")):
                try:
                    parts = _gaze_split(table)
                except DataError:
                    # What merely lies nearby may be anything; what was named has to be right.
                    if root in self._named:
                        raise
                    continue
                for name, part in parts.items():
                    if _COCO_NUMBER.fullmatch(name):
                        by_number.setdefault(name, part)
        split: dict[str, str] = {}
        for folder in dict.fromkeys(phrase.photo.split("/", 1)[0] for phrase in self.phrases):
            files = self._of_set(folder)
            home = next(iter(files.values())).parent.parent
            table = home / "pairs.csv"
            given = {name: self.given[key] for name in files if (key := f"{folder}/{name}") in self.given}
            by_rule = split_names(name for name in files if name not in given)
            of_set = {**by_rule, **given, **(_gaze_split(table) if table.is_file() else {})}
            split |= {f"{folder}/{name}": by_number.get(name, of_set[name]) for name in files}
        return split


def parse_boxes(cell: str) -> tuple[Box, ...]:
    """Boxes of a table's cell; none for an empty one.

    >>> parse_boxes("0.1,0.2,0.5,0.6;0,0,1,1")
    ((0.1, 0.2, 0.5, 0.6), (0.0, 0.0, 1.0, 1.0))

    Raises:
        ValueError: a box has not four numbers, runs backwards or lies outside 0..1.
    """
    boxes = []
    for part in cell.split(";"):
        if not part.strip():
            continue
        try:
            x0, y0, x1, y1 = (float(number) for number in part.split(","))
        except ValueError:
            raise ValueError(f"box {part!r} is not x0,y0,x1,y1") from None
        # Thin things have no width once rounded.
        if not (0 <= x0 <= x1 <= 1 and 0 <= y0 <= y1 <= 1):
            raise ValueError(f"box {part!r} is not x0,y0,x1,y1 in shares of width and height, 0 to 1")
        boxes.append((x0, y0, x1, y1))
    return tuple(boxes)


def format_boxes(boxes: Iterable[Box]) -> str:
    """Boxes as a table's cell, to a thousandth of the photo.

    >>> format_boxes([(0.1, 0.2, 0.5, 0.6)])
    '0.100,0.200,0.500,0.600'
    """
    return ";".join(",".join(f"{edge:.3f}" for edge in box) for box in boxes)


def mirrored(text: str) -> str:
    """The text with left and right exchanged, as a mirrored photo wants it.

    >>> mirrored("the cup on the left, right of the plate")
    'the cup on the right, left of the plate'
    """
    return _SIDE.sub(lambda match: _SIDES[match.group()], text)


def _gaze_split(table: Path) -> Mapping[str, str]:
    """Splits of a gaze folder's photos, by the rule that `GazeFolder` follows."""
    conditions: dict[str, set[str]] = {}
    given: dict[str, str] = {}
    rows = read_rows(table, "one for each photo and viewing condition was expected")
    if not {"image", "condition"} <= set(rows[0]):
        raise DataError(f"{table} has the columns {', '.join(rows[0])}: image and condition were expected")
    for row in rows:
        conditions.setdefault(row["image"], set()).add(row["condition"])
        if row.get("split") in SPLITS:
            given[row["image"]] = row["split"]
    return split_photos(conditions, given)


def wordings(phrases: Iterable[Phrase]) -> Sequence[str]:
    """All texts, each once, in order of appearance."""
    return list(dict.fromkeys(text for phrase in phrases for text in phrase.texts))
