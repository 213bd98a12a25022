"""Sources of texts with boxes: which form a source has, and plain tables of images, texts and boxes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from salgan_edge.errors import DataError
from salgan_edge.gaze.folder import SPLITS, DatasetInfo
from salgan_edge.gaze.prepare import BoxForm, BoxUnit, LayoutName
from salgan_edge.gaze.prepare.annotations import (
    entities_folder,
    holds,
    is_coco,
    read_coco,
    read_entities,
    read_references,
)
from salgan_edge.gaze.prepare.gathered import (
    SHARES,
    SPLIT_WORDS,
    Gathered,
    PhotoFiles,
    clean,
    corners_of,
    finite_numbers,
    frame_of,
    photo_folder,
    split_of_name,
)
from salgan_edge.gaze.prepare.gaze_sources import Found, files_in, folders_in
from salgan_edge.gaze.prepare.texts import IMAGE_COLUMNS, find_column, read_csv, simple_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from salgan_edge.gaze.folder import Problems
    from salgan_edge.gaze.prepare import PrepareOptions
    from salgan_edge.gaze.prepare.gathered import RawBox, SourcePhoto

__all__ = ["find_phrases", "phrase_tables"]

_BOX_COLUMNS = ("boxes", "box", "bbox", "bboxes", "boundingbox")
_TEXT_COLUMNS = (
    "phrase",
    "phrases",
    "texts",
    "text",
    "expression",
    "caption",
    "sentence",
    "description",
    "label",
)
_KIND_COLUMNS = ("kind", "type", "category")
_SPLIT_COLUMNS = ("split", "subset", "partition")
_CORNERS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
_SIZES = (("x", "y", "w", "h"), ("x", "y", "width", "height"))
_FRAMES = (("imagewidth", "imageheight"), ("imgwidth", "imgheight"), ("width", "height"))
_LARGEST_SHARE = 1.5
"""A box that ends beyond this is in pixels; one of pixels that ends before would be a single pixel."""
_BACKWARDS = 0.05
"""Where a larger share of the boxes runs backwards, the four numbers probably mean something else than corners."""


def phrase_tables(source: Path) -> dict[LayoutName, list[Path]]:
    """Files of texts with boxes in a source, by layout; recognised by what they hold, nothing decoded.

    Args:
        source: a file, or a folder that holds them, in ``annotations`` perhaps.
    """
    if source.is_file():
        files = [source]
    else:
        below = [path for path in folders_in(source) if path.name.lower() in {"annotations", "refs", "texts"}]
        files = [file for folder in (source, *below) for file in files_in(folder, _READ_AS)]
    found: dict[LayoutName, list[Path]] = {}
    if source.is_dir() and entities_folder(source) is not None:
        found[LayoutName.flickr30k] = [source]
    for file in files:
        layout, holds = _READ_AS.get(file.suffix.lower(), (None, None))
        if layout is not None and holds is not None and holds(file):
            found.setdefault(layout, []).append(file)
    return found


def find_phrases(
    source: Path,
    layout: LayoutName,
    tables: Sequence[Path],
    options: PrepareOptions,
    problems: Problems,
) -> Found[SourcePhoto]:
    """Read a source of texts with boxes.

    Args:
        source: a file or a folder.
        layout: `LayoutName.coco`, ``refcoco``, ``flickr30k`` or ``csv``.
        tables: its files, from `phrase_tables`.
        options: see `PrepareOptions`.
        problems: gets what must be left out.

    Raises:
        DataError: a file is missing, unreadable, unsafe or of another form, or several could be meant.
    """
    if not tables:
        raise DataError(f"{source} {_MISSING[layout]}")
    base = source if source.is_dir() else source.parent
    if source.is_file() and base.name.lower() == "annotations":
        base = base.parent
    gathered = Gathered(PhotoFiles(photo_folder(base, options.images)), problems)
    info = DatasetInfo()
    if layout is LayoutName.flickr30k:
        read_entities(entities_folder(base) or base, gathered)
        info = DatasetInfo(
            name="Flickr30k Entities",
            licence="non-commercial research and education",
            source="Plummer et al., ICCV 2015",
        )
    elif layout is LayoutName.refcoco:
        info = read_references(_single(tables, source), gathered)
    elif layout is LayoutName.coco:
        info = read_coco(tables, gathered)
    else:
        named = [split_of_name(table) for table in tables]
        chosen = tables if len(tables) == len(set(named)) and all(named) else [_single(tables, source)]
        for table, split in zip(chosen, named, strict=False):
            _read_table(table, split if len(chosen) > 1 else "", options, gathered)
    photos = gathered.finished()
    if options.split != "auto":
        fixed = "" if options.split == "rule" else options.split.value
        for photo in photos:
            photo.split = fixed
    given = sorted({photo.split for photo in photos} - {""}, key=SPLITS.index)
    description = [
        *(f"texts: {table}" for table in tables),
        f"photos: {gathered.files.root} ({len(photos)} with texts)",
        f"splits: {'as the set gives them (' + ', '.join(given) + ')' if given and options.split == 'auto' else ', '.join(given) or '70/15/15 by name'}",
    ]
    return Found(layout, photos, description, info)


# Plain tables


@dataclass(frozen=True)
class _Headings:
    """Columns of a table of texts with boxes."""

    image: str
    text: str
    boxes: str | None
    edges: tuple[str, ...]
    """Four columns of numbers, where there is no column of boxes."""
    sized: bool
    """Whether the last two numbers are a width and a height."""
    kind: str | None
    split: str | None
    frame: tuple[str, str] | None


def _headings(row: Mapping[str, Any], options: PrepareOptions) -> _Headings | str:
    """The columns of a table; or what it lacks, as the end of a sentence."""
    simple = {simple_name(name): name for name in reversed([name for name in row if isinstance(name, str)])}
    columns = options.columns
    image = find_column(row, columns.image if columns else None, IMAGE_COLUMNS)
    text = find_column(row, columns.text if columns else None, _TEXT_COLUMNS)
    boxes = find_column(row, None, _BOX_COLUMNS)
    corners = next((group for group in _CORNERS if set(group) <= set(simple)), None)
    sizes = next((group for group in _SIZES if set(group) <= set(simple)), None)
    edges = () if boxes else corners or sizes or ()
    for column, label, option in (
        (image, "image", "; name it with --image-column"),
        (text, "phrase", "; name it with --text-column"),
        (boxes or edges, "boxes", " (or x0, y0, x1, y1, or x, y, w, h)"),
    ):
        if not column:
            return f"has no column like {label}{option}: found {', '.join(map(str, row)) or 'no heading'}"
    assert image is not None
    assert text is not None
    frame = next((pair for pair in _FRAMES if set(pair) <= set(simple) - set(edges)), None)
    return _Headings(
        image,
        text,
        boxes,
        tuple(simple[edge] for edge in edges),
        sized=not boxes and corners is None,
        kind=find_column(row, None, _KIND_COLUMNS),
        split=find_column(row, None, _SPLIT_COLUMNS),
        frame=(simple[frame[0]], simple[frame[1]]) if frame else None,
    )


def _read_table(path: Path, split: str, options: PrepareOptions, gathered: Gathered) -> None:
    rows = read_csv(path)
    headings = _headings(rows[0], options) if rows else "has no rows"
    if isinstance(headings, str):
        raise DataError(f"{path} {headings}")
    problems = gathered.problems
    read: list[tuple[int, dict[str, Any], list[RawBox]]] = []
    for line, row in enumerate(rows, 2):
        boxes = _boxes_of_row(row, headings)
        if boxes is None:
            problems.add(f"rows of {path.name} whose boxes are not four numbers each", f"line {line}")
        else:
            read.append((line, row, boxes))
    every = [box for _, _, boxes in read for box in boxes]
    sized = _is_sized(path, every, headings, options.box_form)
    if sized:
        every = [corners_of(box) for box in every]
    shares = _is_shares(path, every, options.box_unit)
    for line, row, boxes in read:
        image, said = _cell(row, headings.image), _cell(row, headings.text)
        texts = [text for text in said.split(" / ") if clean(text)]
        own = _cell(row, headings.split)
        if not image or not texts:
            problems.add(f"rows of {path.name} without {'a text' if image else 'an image'}", f"line {line}")
        elif own and own.lower() not in SPLIT_WORDS:
            problems.add(f"rows of {path.name} whose split is not train, val or test", f"line {line} {own!r}")
        else:
            frame = SHARES if shares else None
            if headings.frame is not None and not shares:
                frame = frame_of(*(_cell(row, column) for column in headings.frame))
            photo = gathered.photo(image, frame, SPLIT_WORDS.get(own.lower(), split))
            if photo is not None:
                kind = _cell(row, headings.kind) or "phrase"
                # One row for each instance, or one for all of them.
                gathered.add(
                    photo,
                    (kind, tuple(texts)),
                    kind,
                    texts,
                    [corners_of(box) for box in boxes] if sized else boxes,
                )


def _boxes_of_row(row: Mapping[str, Any], headings: _Headings) -> list[RawBox] | None:
    """Numbers of a row's boxes, none where the cells are empty; None if they are not four numbers each."""
    if headings.boxes is None:
        cells = [_cell(row, column) for column in headings.edges]
        parts = [cells] if any(cells) else []
    else:
        cell = _cell(row, headings.boxes)
        inner = re.sub(r"\]\s*,\s*\[|\)\s*,\s*\(", ";", cell)
        parts = [
            re.split(r"[,\s]+", part.strip())
            for part in re.sub(r"[\[\]()]", "", inner).split(";")
            if part.strip()
        ]
    boxes = [finite_numbers(part, 4) for part in parts]
    return [(box[0], box[1], box[2], box[3]) for box in boxes if box] if all(boxes) else None


def _is_sized(path: Path, boxes: Sequence[RawBox], headings: _Headings, form: BoxForm) -> bool:
    """Whether boxes are x, y, width, height: by the option, the columns, or refused where it is not clear."""
    if form is not BoxForm.auto:
        return form is BoxForm.sizes
    if headings.sized:
        return True
    backwards = [box for box in boxes if box[2] < box[0] or box[3] < box[1]]
    if len(backwards) > _BACKWARDS * len(boxes):
        shown = ",".join(f"{edge:g}" for edge in backwards[0])
        raise DataError(
            f"{path}: {len(backwards)} of {len(boxes)} boxes run backwards as x0,y0,x1,y1 ({shown}): say --box-form sizes if they are x,y,width,height, or --box-form corners"
        )
    return False


def _is_shares(path: Path, boxes: Sequence[RawBox], unit: BoxUnit) -> bool:
    """Whether boxes are in shares: by the option, by their values, or refused where these disagree."""
    if unit is not BoxUnit.auto:
        return unit is BoxUnit.shares
    small = sum(max(box) <= _LARGEST_SHARE for box in boxes)
    if 0 < small < len(boxes):
        raise DataError(
            f"{path}: {small} of {len(boxes)} boxes lie within 0..1 and the others do not: say --box-unit pixels or --box-unit shares"
        )
    return small == len(boxes)


def _cell(row: Mapping[str, Any], column: str | None) -> str:
    value = row.get(column) if column else None
    return value.strip() if isinstance(value, str) else ""


def _single(tables: Sequence[Path], source: Path) -> Path:
    """The only table.

    Raises:
        DataError: there are several.
    """
    if len(tables) > 1:
        raise DataError(
            f"{source} has several tables of texts with boxes ({', '.join(table.name for table in tables)}): give one of them in place of the folder"
        )
    return tables[0]


def _is_references(path: Path) -> bool:
    return holds(path, b"sentences", b"ann_id")


def _is_table(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            heading = file.readline(10_000)
    except OSError:
        return False
    names = {simple_name(name.strip('"')) for name in re.split(r"[,;\t]", heading.strip())}
    return bool(names & set(_BOX_COLUMNS)) or any(set(group) <= names for group in (*_CORNERS, *_SIZES))


_READ_AS: dict[str, tuple[LayoutName, Callable[[Path], bool]]] = {
    ".json": (LayoutName.coco, is_coco),
    ".p": (LayoutName.refcoco, _is_references),
    ".pkl": (LayoutName.refcoco, _is_references),
    ".pickle": (LayoutName.refcoco, _is_references),
    ".csv": (LayoutName.csv, _is_table),
    ".tsv": (LayoutName.csv, _is_table),
}
"""Layout and test of content by suffix."""

_MISSING = {
    LayoutName.coco: "has no .json with images and annotations, here or in annotations/: COCO's instances, captions or grounded phrases were expected",
    LayoutName.refcoco: "has no pickle of references, such as refs(unc).p",
    LayoutName.flickr30k: "does not hold the folders Sentences and Annotations of Flickr30k Entities",
    LayoutName.csv: "has no .csv or .tsv with a column of boxes (boxes; x0, y0, x1, y1; or x, y, w, h)",
}
