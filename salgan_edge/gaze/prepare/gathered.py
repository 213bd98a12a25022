"""Photos and what is said about them, gathered while a source of texts with boxes is read.

No photo is decoded here, so boxes stay in the source's own units until the folder is packed and the photo's size known.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from salgan_edge.errors import DataError
from salgan_edge.gaze.folder import SPLITS
from salgan_edge.gaze.prepare.gaze_sources import SPLIT_FOLDERS
from salgan_edge.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from salgan_edge.gaze.folder import Problems

__all__ = [
    "CAPTION",
    "SHARES",
    "SPLIT_WORDS",
    "Gathered",
    "PhotoFiles",
    "RawBox",
    "Row",
    "SourcePhoto",
    "clean",
    "corners_of",
    "finite_numbers",
    "frame_of",
    "photo_folder",
    "split_of_name",
]

RawBox = tuple[float, float, float, float]
"""x0, y0, x1, y1 in the units of the photo's frame; x1 and y1 may still be the smaller ones."""

CAPTION = "caption"
"""Kind of a text about the whole photo."""

SHARES = (1.0, 1.0)
"""Frame of boxes in shares of the photo's width and height."""

SPLIT_WORDS = {
    **SPLIT_FOLDERS,
    **dict.fromkeys(("dev", "minival"), "validation"),
    **dict.fromkeys(("testa", "testb", "testc"), "test"),
}
"""Splits by the words that stand for them in names of files and in columns."""

_COCO_NAME = re.compile(r"COCO_[a-z]+\d{4}_(\d{12})")
_WORD = re.compile(r"[a-zA-Z]+")


@dataclass
class Row:
    """Wordings that name the same things in one photo."""

    kind: str
    texts: list[str] = field(default_factory=list)
    boxes: list[RawBox] = field(default_factory=list)
    """Empty: the whole photo shows it."""


@dataclass
class SourcePhoto:
    """One photo and all that is said about it."""

    file: Path
    name: str
    """Name in the packed folder; COCO's number where the file is named by it."""
    frame: tuple[float, float] | None = None
    """Width and height in whose units the boxes are; `SHARES`, or None: the photo's own pixels."""
    split: str = ""
    """``train``, ``validation`` or ``test``; empty: the rule decides."""
    rows: dict[Hashable, Row] = field(default_factory=dict)


class PhotoFiles:
    """Image files of a folder and all below it but packed folders, found by the names that tables give them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        entered: set[Path] = set()
        for place, below, names in os.walk(root, followlinks=True):
            folder = Path(place)
            real = folder.resolve()
            # A link to a folder above would be walked for ever, and packed copies found beside their photos.
            packed = "dataset.json" in names and bool({"phrases.csv", "pairs.csv"} & set(names))
            if real in entered or (folder != root and packed):
                below.clear()
                continue
            entered.add(real)
            below[:] = sorted(name for name in below if not name.startswith("."))
            for name in sorted(names):
                path = folder / name
                if path.suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                    self._by_name.setdefault(name, []).append(path)
                    self._by_stem.setdefault(_bare(path.stem), []).append(path)

    def find(self, name: str, split: str = "") -> list[Path]:
        """Files that a name may mean, with or without folders, suffix and ``COCO_train2014_``.

        Files in folders that the name contradicts are none of them. Where one of several lies in a
        folder of the given split, that one is meant.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts:
            return []
        last = parts[-1]
        stem = PurePosixPath(last).stem if PurePosixPath(last).suffix.lower() in IMAGE_SUFFIXES else last
        candidates = self._by_name.get(last) or self._by_stem.get(_bare(stem), [])
        fitting = [path for path in candidates if _fits(path.relative_to(self.root).parts[:-1], parts[:-1])]
        if len(fitting) > 1 and split:
            in_split = [path for path in fitting if split_of_name(path.parent) == split]
            fitting = in_split or fitting
        return fitting


def _fits(place: Sequence[str], asked: Sequence[str]) -> bool:
    """Whether the shorter of two chains of folders ends the longer one."""
    shared = min(len(place), len(asked))
    return shared == 0 or tuple(place[-shared:]) == tuple(asked[-shared:])


def _bare(stem: str) -> str:
    """A photo's name; COCO's number alone, by which the same photo is known in every set."""
    match = _COCO_NAME.match(stem)
    return match[1] if match else stem.strip()


def photo_folder(base: Path, given: Path | None) -> Path:
    """The folder that photos lie in: `given`, in `base` or in the current folder; `base` where it is None.

    Raises:
        DataError: `given` is not a folder.
    """
    if given is None:
        return base
    for path in (base / given, given):
        if path.is_dir():
            return path
    raise DataError(f"{given} is not a folder, in {base} or here: --images takes the folder of the photos")


class Gathered:
    """Photos and their rows, merged as they are read."""

    def __init__(self, files: PhotoFiles, problems: Problems) -> None:
        self.files = files
        self.problems = problems
        self._photos: dict[Path, SourcePhoto] = {}
        self._unfound: set[str] = set()
        self._moved: set[Path] = set()

    def photo(self, name: str, frame: tuple[float, float] | None, split: str = "") -> SourcePhoto | None:
        """The photo of a name; None, and counted once, where there is no such file."""
        found = self.files.find(name, split)
        if len(found) != 1:
            if name not in self._unfound:
                self._unfound.add(name)
                kind = "photos whose name several files have" if found else "photos without a file"
                self.problems.add(kind, name)
            return None
        file = found[0]
        photo = self._photos.setdefault(file, SourcePhoto(file, _bare(file.stem), frame, split))
        if split and photo.split != split:
            if photo.split and file not in self._moved:
                self._moved.add(file)
                self.problems.note("photos that the set divides between splits, all held back", name)
            # The last of the splits: what is tested on anywhere is not trained on.
            photo.split = max(photo.split or split, split, key=SPLITS.index)
        if photo.frame != frame:
            self.problems.add("photos of which two sizes are given", name)
            return None
        return photo

    def add(
        self, photo: SourcePhoto, key: Hashable, kind: str, texts: Iterable[str], boxes: Iterable[RawBox]
    ) -> None:
        """Wordings and boxes of what `key` stands for in the photo; what is there already is not repeated."""
        cleaned = [text for raw in texts if (text := clean(raw))]
        if not cleaned:
            self.problems.add("texts that are empty", photo.file.name)
            return
        row = photo.rows.setdefault(key, Row(kind))
        row.texts += [text for text in dict.fromkeys(cleaned) if text not in row.texts]
        row.boxes += [box for box in dict.fromkeys(boxes) if box not in row.boxes]

    def finished(self) -> list[SourcePhoto]:
        """All photos with a text, under names of their own, in the order of these.

        Captions alone say nothing about places: photos with nothing else are left out.
        """
        for file, photo in list(self._photos.items()):
            if not photo.rows:
                del self._photos[file]
            elif all(row.kind == CAPTION and not row.boxes for row in photo.rows.values()):
                self.problems.note("photos with captions and no boxes, left out", file.name)
                del self._photos[file]
        named: dict[str, list[SourcePhoto]] = {}
        for photo in self._photos.values():
            named.setdefault(photo.name, []).append(photo)
        chosen: dict[str, SourcePhoto] = {}
        for name, photos in named.items():
            for photo in photos:
                # Folders of categories or splits repeat names.
                photo.name = name if len(photos) == 1 else f"{photo.file.parent.name}_{name}"
                if chosen.setdefault(photo.name, photo) is not photo:
                    self.problems.add("photos of the same name", str(photo.file))
        return [chosen[name] for name in sorted(chosen)]


def clean(text: str) -> str:
    """A text on one line that does not fall apart where wordings are separated."""
    return " ".join(text.split()).replace(" / ", "/").strip(" /")


def corners_of(box: RawBox) -> RawBox:
    """Corners of x, y, width, height."""
    return box[0], box[1], box[0] + box[2], box[1] + box[3]


def finite_numbers(values: Any, count: int) -> list[float] | None:
    """So many finite numbers, given as numbers or texts; None if they are anything else."""
    if not isinstance(values, list | tuple) or len(values) != count:
        return None
    try:
        numbers = [math.nan if isinstance(value, bool) else float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def frame_of(width: Any, height: Any) -> tuple[float, float] | None:
    """A size that a source gives; None where it gives none, or none that can be."""
    size = finite_numbers([width, height], 2)
    return (size[0], size[1]) if size and min(size) > 0 else None


def split_of_name(path: Path) -> str:
    """The split that the words of a file's name stand for; empty if none or several do."""
    words = {SPLIT_WORDS[word.lower()] for word in _WORD.findall(path.stem) if word.lower() in SPLIT_WORDS}
    return words.pop() if len(words) == 1 else ""
