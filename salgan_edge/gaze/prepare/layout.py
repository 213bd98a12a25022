"""What a layout finds in a source: photos, maps, fixations and texts, nothing read yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from salgan_edge.errors import DataError
from salgan_edge.gaze.info import DatasetInfo
from salgan_edge.gaze.split import SPLITS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from salgan_edge.gaze.prepare.texts import Columns

__all__ = [
    "BoxForm",
    "BoxUnit",
    "Found",
    "Item",
    "LayoutName",
    "PrepareOptions",
    "SplitChoice",
    "entries",
    "files_in",
    "folders_in",
    "sub_folder",
]


class LayoutName(StrEnum):
    """How a source is laid out; ``auto`` looks at its folders."""

    auto = "auto"
    sjtu_tis = "sjtu-tis"
    folder = "folder"
    coco = "coco"
    """Texts with boxes: instances, captions and grounded phrases in COCO's JSON."""
    refcoco = "refcoco"
    """Texts with boxes: pickles of referring expressions with ``instances.json``."""
    flickr30k = "flickr30k"
    """Texts with boxes: ``Sentences`` and ``Annotations`` of Flickr30k Entities."""
    csv = "csv"
    """Texts with boxes: a table of images, texts and boxes."""


class BoxUnit(StrEnum):
    """What the numbers of a table's boxes count; ``auto`` looks at them."""

    auto = "auto"
    pixels = "pixels"
    shares = "shares"


class BoxForm(StrEnum):
    """What a table's four numbers are; ``auto`` looks at the names of its columns."""

    auto = "auto"
    corners = "corners"
    """x0, y0, x1, y1"""
    sizes = "sizes"
    """x, y, width, height"""


class SplitChoice(StrEnum):
    """Who says which photo belongs to which split."""

    auto = "auto"
    """The set's own (sub-folders like ``train`` and ``val``, where there are several; lists; a column), else the rule."""
    rule = "rule"
    """The rule, 70/15/15 by the photo's name."""
    train = "train"
    validation = "validation"
    test = "test"


@dataclass(frozen=True)
class PrepareOptions:
    """How a source is read and packed.

    Raises:
        ValueError: a value is out of its range.
    """

    layout: LayoutName = LayoutName.auto
    images: Path | None = None
    """Folder of the photos, within the source or anywhere; None: found by usual names. So are the next two."""
    maps: Path | None = None
    fixations: Path | None = None
    texts: Path | None = None
    """Table of texts of SJTU-TIS; None: found in the source."""
    columns: Columns | None = None
    """Columns of that table, or of one of texts with boxes; None: found by usual names."""
    box_unit: BoxUnit = BoxUnit.auto
    """Of a table of texts with boxes; so is the next one."""
    box_form: BoxForm = BoxForm.auto
    split: SplitChoice = SplitChoice.auto
    max_side: int = 512
    """Longest side of the packed photos in pixels; larger ones are shrunk."""
    info: DatasetInfo = field(default_factory=DatasetInfo)
    """What is written into ``dataset.json``; what is empty is filled in where the layout is a known data set."""
    overwrite: bool = False
    """Replace a packed folder."""
    strict: bool = False
    """Write nothing if anything must be left out."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.max_side < 32:
            raise ValueError(f"max_side is {self.max_side}: at least 32 pixels were expected")


@dataclass(frozen=True)
class Item:
    """One photo under one viewing condition, and where its files lie."""

    photo: str
    """Name in the packed folder."""
    image: Path
    condition: str
    text: str
    map: Path | None
    fixations: Path | None
    split: str = ""
    """``train``, ``validation`` or ``test``; empty: the rule decides."""

    def __post_init__(self) -> None:
        """Check the split."""
        if self.split and self.split not in SPLITS:
            raise ValueError(f"split {self.split!r}: one of {', '.join(SPLITS)} was expected")


@dataclass(frozen=True)
class Found:
    """All that a layout found."""

    layout: LayoutName
    items: list[Item]
    description: list[str]
    """What was found where, for people, a line each."""
    info: DatasetInfo
    """What is known of a data set with this layout."""


def sub_folder(
    source: Path, given: Path | None, usual: Collection[str], what: str, option: str
) -> Path | None:
    """The folder of one kind of file in a source.

    Args:
        source: where to look.
        given: the user's choice, relative to `source` or to the current folder.
        usual: lower-case names to look for.
        what: kind of file, for messages.
        option: option that sets `given`, for messages.

    Returns:
        None if nothing was given and nothing is there.

    Raises:
        DataError: the given folder does not exist, or several folders have usual names.
    """
    if given is not None:
        for path in (source / given, given):
            if path.is_dir():
                return path
        raise DataError(f"{given} is no folder, in {source} or here: {option} takes the folder of the {what}")
    matching = [path for path in folders_in(source) if path.name.lower() in usual]
    if len(matching) > 1:
        raise DataError(
            f"{source} has several folders of {what} ({', '.join(path.name for path in matching)}): name one with {option}"
        )
    return matching[0] if matching else None


def folders_in(folder: Path) -> list[Path]:
    """Sub-folders in order, hidden ones left out."""
    return [path for path in entries(folder) if path.is_dir()]


def files_in(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Files with one of the lower-case suffixes, in order, hidden ones left out."""
    return [path for path in entries(folder) if path.suffix.lower() in suffixes and path.is_file()]


def entries(folder: Path) -> Iterable[Path]:
    """What lies in a folder, in order, hidden files left out.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror or error}") from error
