"""Writing a folder of texts with boxes, and telling what one holds.

Such a folder is ``phrases.csv`` (``image, phrase, boxes, kind`` and perhaps ``split``), ``images/``
and ``dataset.json``; `salgan_edge.gaze.phrases.PhraseSet` reads it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from salgan_edge.errors import DataError, ImageError
from salgan_edge.gaze.info import DatasetInfo
from salgan_edge.gaze.phrases import PHRASE_COLUMNS, PhraseSet, format_boxes
from salgan_edge.gaze.prepare.maps import shrunk
from salgan_edge.gaze.prepare.pack import (
    JPEG_QUALITY,
    digest_of,
    replacing,
    require_free,
    stop_if_strict,
)
from salgan_edge.gaze.prepare.phrase_sources import SHARES
from salgan_edge.gaze.problems import Problems
from salgan_edge.gaze.split import SPLIT_ID, SPLITS
from salgan_edge.images import read_image, write_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from salgan_edge.gaze.phrases import Box, Phrase
    from salgan_edge.gaze.prepare.phrase_sources import RawBox, Row, SourcePhoto

    PhotoProgress = Callable[[Sequence[SourcePhoto]], Iterable[SourcePhoto]]
    NameProgress = Callable[[Sequence[str]], Iterable[str]]

__all__ = ["PhraseContents", "PhrasePart", "pack_phrases", "phrase_contents"]

_BEYOND = 0.005
"""A box may end so far outside its photo, as a share of it, without being worth a note."""

_AREAS = (("up to 1 %", 0.01), ("1 to 10 %", 0.1), ("10 to 50 %", 0.5), ("above 50 %", 1.0))
"""Classes of the share of the photo that a text's boxes cover, each up to its number."""

_EXAMPLES = 2


def pack_phrases(
    photos: Sequence[SourcePhoto],
    output: Path,
    info: DatasetInfo,
    problems: Problems,
    *,
    max_side: int = 512,
    overwrite: bool = False,
    strict: bool = False,
    progress: PhotoProgress = lambda photos: photos,
) -> None:
    """Write a folder of texts with boxes.

    Photos are JPEG with the longest side at most `max_side`. Boxes become shares of the photo and are
    clipped to it. The folder is built beside `output` and renamed, so that an interruption leaves
    nothing.

    Args:
        photos: what to pack.
        output: the folder.
        info: written into ``dataset.json``.
        problems: gets what had to be left out.
        max_side: longest side of photos in pixels.
        overwrite: replace a packed folder.
        strict: refuse to leave anything out.
        progress: wraps the list of photos, to show progress.

    Raises:
        DataError: nothing usable is left, or with `strict` something is not.
        OutputError: `output` is in the way or cannot be written.
    """
    require_free(output, overwrite=overwrite)
    stop_if_strict(problems, strict=strict)
    with replacing(output) as folder:
        rows: list[dict[str, str]] = []
        digests: dict[str, str] = {}
        for photo in progress(photos):
            rows += _pack_photo(photo, folder, digests, problems, max_side)
        stop_if_strict(problems, strict=strict)
        if not rows:
            raise DataError("; ".join(["nothing usable is left", *problems.lines()]))
        columns = [*PHRASE_COLUMNS, "split"] if any(row["split"] for row in rows) else [*PHRASE_COLUMNS]
        with (folder / "phrases.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        info.write(folder / "dataset.json")
        # What was just written must be what the reader takes.
        PhraseSet(folder)


def _pack_photo(
    photo: SourcePhoto, folder: Path, digests: dict[str, str], problems: Problems, max_side: int
) -> list[dict[str, str]]:
    """Rows of one photo, whose file is written if there are any."""
    digest = digest_of(photo.file)
    if digest in digests:
        # One photo under two names could end up on both sides of a split.
        problems.add("photos that are copies of another", f"{photo.name} of {digests[digest]}")
        return []
    try:
        pixels = read_image(photo.file)
    except ImageError:
        problems.add("images that cannot be read", photo.file.name)
        return []
    height, width = pixels.shape[:2]
    frame = photo.frame or (width, height)
    # Each side of a shrunk photo is off by less than a pixel; one that was turned is another.
    if frame != SHARES and abs(frame[0] * height - frame[1] * width) > max(
        frame[0] + frame[1], width + height
    ):
        problems.add(
            "photos of another shape than the source says",
            f"{photo.file.name} [{width}x{height}, not {frame[0]:g}x{frame[1]:g}]",
        )
        return []
    rows = [
        {"image": photo.name, "phrase": " / ".join(row.texts), "boxes": format_boxes(boxes), "kind": row.kind,
         "split": photo.split}
        for row in photo.rows.values()
        if (boxes := _boxes(row, photo, frame, problems)) is not None
    ]  # fmt: skip
    if rows:
        digests[digest] = photo.name
        small = shrunk(pixels, max_side)
        write_image(folder / "images" / f"{photo.name}.jpg", small.astype(np.uint8), JPEG_QUALITY)
    return rows


def _boxes(row: Row, photo: SourcePhoto, frame: tuple[float, float], problems: Problems) -> list[Box] | None:
    """Boxes of a row in shares, clipped to the photo; None if it had some and none can be used."""
    usable = []
    for raw in row.boxes:
        named = f"{row.texts[0]} in {photo.name}"
        box = _clipped(raw, frame)
        if raw[2] <= raw[0] or raw[3] <= raw[1]:
            problems.add("boxes without an area", named)
        elif box is None:
            problems.add("boxes outside the photo", named)
        else:
            if (
                max(-raw[0] / frame[0], -raw[1] / frame[1], raw[2] / frame[0] - 1, raw[3] / frame[1] - 1)
                > _BEYOND
            ):
                problems.note("boxes that reach beyond the photo, clipped", named)
            usable.append(box)
    return usable if usable or not row.boxes else None


def _clipped(raw: RawBox, frame: tuple[float, float]) -> Box | None:
    """A box in shares of the photo, cut at its edges; None if nothing of it is inside."""
    x0, x1 = (min(max(edge / frame[0], 0.0), 1.0) for edge in (raw[0], raw[2]))
    y0, y1 = (min(max(edge / frame[1], 0.0), 1.0) for edge in (raw[1], raw[3]))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


# What a folder holds


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


def phrase_contents(
    folder: PhraseSet, progress: NameProgress = lambda names: names, *, check: bool = True
) -> PhraseContents:
    """Count what is there and read every photo.

    Args:
        folder: whose table was checked when it was read.
        progress: wraps the list of photos, to show progress.
        check: read the photos; else they are counted only.
    """
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
        all=_part(folder.phrases),
        splits={
            split: _part([phrase for phrases in folder.select(split).values() for phrase in phrases])
            for split in SPLITS
        },
        areas=areas,
        unnamed=len(folder.split) - len(named),
        texts=texts,
        problems=problems.lines(),
    )


def _part(phrases: Sequence[Phrase]) -> PhrasePart:
    kinds: dict[str, int] = {}
    for phrase in phrases:
        kinds[phrase.kind] = kinds.get(phrase.kind, 0) + 1
    return PhrasePart(
        photos=len({phrase.photo for phrase in phrases}),
        rows=len(phrases),
        wordings=sum(len(phrase.texts) for phrase in phrases),
        distinct=len({text for phrase in phrases for text in phrase.texts}),
        boxes=sum(len(phrase.boxes) for phrase in phrases),
        kinds=dict(sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))),
    )
