"""`salgan-edge data prepare`: data sets as published, or the user's own, packed for training and evaluation.

`salgan_edge.gaze.prepare.build.prepare` does it. This file holds its options and imports nothing heavy, since the
command line is made of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from salgan_edge.gaze.folder import DatasetInfo

__all__ = ["BoxForm", "BoxUnit", "Columns", "LayoutName", "PrepareOptions", "SplitChoice"]


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
class Columns:
    """Names of columns in a table of texts; None: found by usual names."""

    image: str | None = None
    text: str | None = None
    condition: str | None = None


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
    info: DatasetInfo | None = None
    """What is written into ``dataset.json``; what it leaves out is filled in where the layout is a known data set."""
    overwrite: bool = False
    """Replace a packed folder."""
    strict: bool = False
    """Write nothing if anything must be left out."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.max_side < 32:
            raise ValueError(f"max_side is {self.max_side}: at least 32 pixels were expected")
