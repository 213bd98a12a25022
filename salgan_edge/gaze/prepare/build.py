"""`salgan-edge data prepare` as a function: source in, packed folder out, whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import secrets
import shutil
import zipfile
from abc import ABC, abstractmethod
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from salgan_edge.errors import DataError, ImageError, OutputError
from salgan_edge.gaze.folder import COLUMNS, DatasetInfo, GazeFolder, Problems
from salgan_edge.gaze.phrases import PHRASE_COLUMNS, PhraseSet, format_boxes
from salgan_edge.gaze.prepare import LayoutName
from salgan_edge.gaze.prepare.gathered import SHARES
from salgan_edge.gaze.prepare.gaze_sources import (
    RECORDED,
    base_folder,
    find_folders,
    find_sjtu_tis,
    folders_in,
    source_roots,
)
from salgan_edge.gaze.prepare.phrase_sources import find_phrases, phrase_tables
from salgan_edge.gaze.prepare.readers import MAP_SIDE, read_map, read_points, shrunk
from salgan_edge.images import read_image, write_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from salgan_edge.gaze.phrases import Box
    from salgan_edge.gaze.prepare import PrepareOptions
    from salgan_edge.gaze.prepare.gathered import RawBox, Row, SourcePhoto
    from salgan_edge.gaze.prepare.gaze_sources import Found, Item

    Pixels = npt.NDArray[np.uint8]
    Progress = Callable[[Sequence[Any]], Iterable[Any]]

__all__ = ["detect", "prepare"]

_PHRASES = (LayoutName.coco, LayoutName.refcoco, LayoutName.flickr30k, LayoutName.csv)
"""Layouts of texts with boxes; the others are of gaze."""

_JPEG_QUALITY = 90

_LARGEST_SIDE = 65535
"""Coordinates of fixations are stored in 16 bits."""

_BEYOND = 0.005
"""A box may end so far outside its photo, as a share of it, without being worth a note."""

_PARTS = frozenset(
    {"pairs.csv", "phrases.csv", "images", "maps", "fixations.npz", "dataset.json", "observers.npz"}
)
"""What a packed folder may hold; only such a folder is ever replaced."""


def prepare(
    source: Path,
    output: Path,
    options: PrepareOptions,
    *,
    progress: Progress = lambda groups: groups,
    report: Callable[[str], None] = lambda _line: None,
) -> GazeFolder | PhraseSet:
    """Pack a published data set, or the user's own, into the folder that training and evaluation read.

    Args:
        source: the data set, in one of the layouts of `LayoutName`; of texts with boxes, a file of
            them will do.
        output: the packed folder; its name is the data set's name in training.
        options: see `PrepareOptions`.
        progress: wraps the list of photos, to show progress.
        report: gets one line for each thing found, changed or left out.

    Returns:
        The packed folder, read: of gaze, or of texts with boxes.

    Raises:
        DataError: the source has no known layout, a part is missing, nothing is left, or, when
            strict, something had to be left out.
        OutputError: the output cannot be written or would destroy something.
    """
    if not source.exists():
        raise DataError(f"{source} is neither a folder nor a file: the folder of a data set was expected")
    if output.resolve() == source.resolve() or output.resolve() in source.resolve().parents:
        raise OutputError(f"{output} holds the source {source}: choose another --output")
    _require_free(output, overwrite=options.overwrite)
    problems = Problems()
    layout = detect(source) if options.layout is LayoutName.auto else options.layout
    found: Found[Any]
    if layout in _PHRASES:
        found = find_phrases(source, layout, phrase_tables(source).get(layout, []), options, problems)
    elif not source.is_dir():
        raise DataError(f"{source} is not a folder: the folder of a data set was expected")
    else:
        find = find_sjtu_tis if layout is LayoutName.sjtu_tis else find_folders
        found = find(source, options, problems)
    report(f"layout {found.layout.value}")
    for line in found.description:
        report(line)
    of_phrases = layout in _PHRASES
    if not found.photos:
        nothing = "no text has a box" if of_phrases else "no image has a map or fixations of its name"
        reasons = "; ".join([*problems.lines(), *problems.notes()]) or nothing
        raise DataError(f"{source} has nothing that can be packed: {reasons}")
    _pack(found, output, _PhraseWriter if of_phrases else _GazeWriter, options, problems, progress)
    for line in problems.notes():
        report(f"note: {line}")
    for line in problems.lines():
        report(f"left out: {line}")
    return PhraseSet(output) if of_phrases else GazeFolder(output)


def detect(source: Path) -> LayoutName:
    """The layout of a source, by the names of its folders and the content of its tables.

    Raises:
        DataError: it has none of the known ones, or several.
    """
    tables = phrase_tables(source)
    if LayoutName.refcoco in tables:
        # Its boxes lie in a COCO file beside it.
        tables.pop(LayoutName.coco, None)
    possible = {layout: ", ".join(path.name for path in files) for layout, files in tables.items()}
    if source.is_dir():
        if base_folder(source) is not None:
            possible[LayoutName.sjtu_tis] = "image_1800"
        elif (source / "pairs.csv").is_file():
            raise DataError(
                f"{source} is a packed folder already: 'salgan-edge data show' tells what it holds"
            )
        elif source_roots(source, None) and (not tables or _has_gaze(source)):
            possible[LayoutName.folder] = "maps or fixations"
    if len(possible) > 1:
        several = ", ".join(f"{layout.value} ({what})" for layout, what in possible.items())
        raise DataError(f"{source} has several layouts: {several}; say which with --layout")
    if possible:
        return next(iter(possible))
    texts = "a COCO .json, refs(...).p with instances.json, Sentences with Annotations, or a .csv with boxes"
    if source.is_file():
        raise DataError(f"{source} holds no texts with boxes in a known form: expected {texts}")
    has = ", ".join(path.name for path in folders_in(source)) or "none"
    raise DataError(
        f"{source} has no known layout (its folders: {has}): expected image_1800 with map_1800 or fixation_1800, or images with maps or fixations, or {texts}; say which with --layout, --images, --maps, --fixations"
    )


def _has_gaze(source: Path) -> bool:
    """Whether maps or fixations lie beside the images of a plain source."""
    return any(
        path.name.lower() in RECORDED for root, _ in source_roots(source, None) for path in folders_in(root)
    )


def _filled(given: DatasetInfo | None, known: DatasetInfo) -> DatasetInfo:
    """The user's fields, and what is known of the layout where the user left the default."""
    unset = DatasetInfo()
    given = given or unset
    return replace(
        given,
        **{
            f.name: getattr(known, f.name)
            for f in fields(DatasetInfo)
            if getattr(given, f.name) == getattr(unset, f.name)
        },
    )


def _pack(
    found: Found[Any],
    output: Path,
    writer: type[_Writer],
    options: PrepareOptions,
    problems: Problems,
    progress: Progress,
) -> None:
    """Write a packed folder.

    The folder is built beside `output` and renamed, so that an interruption leaves nothing.

    Raises:
        DataError: nothing usable is left, or, when strict, something is not.
        OutputError: `output` is in the way or cannot be written.
    """
    _stop_if_strict(problems, options)
    with _replacing(output) as folder:
        writing = writer(folder, problems, options.max_side)
        for photo in progress(found.photos):
            writing.add(photo)
        _stop_if_strict(problems, options)
        if not writing.rows:
            raise DataError("; ".join(["nothing usable is left", *problems.lines()]))
        writing.finish()
        _filled(options.info, found.info).write(folder / "dataset.json")
        # What was just written must be what the reader takes.
        writer.reader(folder)


def _require_free(output: Path, *, overwrite: bool) -> None:
    """Refuse an output that would destroy something.

    Raises:
        OutputError: a file or a folder with content is in the way, or, with `overwrite`, a folder
            that holds anything but the parts of a packed one.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise OutputError(f"{output} is a file: give a folder with --output")
    present = {path.name for path in output.iterdir()}
    if present and not overwrite:
        raise OutputError(f"{output} is not empty: choose another --output, or replace it with --overwrite")
    foreign = sorted(present - _PARTS)
    if foreign:
        raise OutputError(
            f"{output} is not a packed folder (it holds {', '.join(foreign[:3])}): --overwrite replaces packed folders only"
        )


def _stop_if_strict(problems: Problems, options: PrepareOptions) -> None:
    """Refuse to leave anything out, where the options say so."""
    if options.strict and problems.skipped:
        raise DataError(f"--strict, and these cannot be used: {'; '.join(problems.lines())}")


@contextlib.contextmanager
def _replacing(output: Path) -> Iterator[Path]:
    """A new folder beside `output` that takes its place when the block ends without an error.

    Whatever interrupts it, the former folder lies in its place or the new one does.

    Raises:
        OutputError: the folder cannot be made or renamed, or the disk is full.
    """
    temporary = output.parent / f".{output.name}-{secrets.token_hex(4)}"
    old = temporary.with_name(f"{temporary.name}-old")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        # Unlike mkdtemp's, an ordinary folder with the rights that the user's umask gives.
        temporary.mkdir()
        yield temporary
        try:
            # Two renames, so that the old folder is lost only when the new one has its place.
            if output.exists():
                output.rename(old)
            temporary.rename(output)
        finally:
            # Also when Ctrl-C comes between the two.
            if old.exists() and not output.exists():
                old.rename(output)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write {output}: {error.strerror or error}; choose another --output"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if output.exists():
            shutil.rmtree(old, ignore_errors=True)


# Writing one photo after another


class _Writer(ABC):
    """Rows, photos and what goes with them, of one kind of folder.

    Photos are JPEG with the longest side at most `max_side`.
    """

    reader: type[GazeFolder | PhraseSet]
    """Reads the folder that is written."""

    def __init__(self, folder: Path, problems: Problems, max_side: int) -> None:
        self.folder = folder
        self.problems = problems
        self.rows: list[dict[str, Any]] = []
        self._max_side = max_side
        self._names: dict[str, str] = {}
        """Names of packed photos by the SHA-256 of their files."""

    @abstractmethod
    def add(self, photo: Any) -> None:
        """Pack a photo, one of `Found.photos`, or tell `problems` why it cannot be."""

    @abstractmethod
    def finish(self) -> None:
        """Write the tables."""

    def _read(self, file: Path, name: str) -> tuple[str, Pixels] | None:
        """SHA-256 and pixels of a photo; None, and counted, where it cannot be used."""
        digest = _digest_of(file)
        if digest in self._names:
            # One photo under two names could end up on both sides of a split.
            self.problems.add("photos that are copies of another", f"{name} of {self._names[digest]}")
            return None
        try:
            return digest, read_image(file)
        except ImageError:
            self.problems.add("images that cannot be read", file.name)
            return None

    def _keep(self, digest: str, name: str, pixels: Pixels) -> None:
        """Write a photo of which there are rows."""
        self._names[digest] = name
        small = shrunk(pixels, self._max_side)
        write_image(self.folder / "images" / f"{name}.jpg", small.astype(np.uint8), _JPEG_QUALITY)

    def _write_table(self, name: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a table, with the column ``split`` where the source gives splits."""
        columns = [*columns, "split"] if any(row["split"] for row in rows) else columns
        with (self.folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)


class _GazeWriter(_Writer):
    """``pairs.csv``, ``fixations.npz`` and ``maps/``.

    Maps are 8-bit PNG with the longest side at most `MAP_SIDE`; fixations and the columns ``width`` and
    ``height`` stay in the original photo's pixels.
    """

    reader = GazeFolder

    def __init__(self, folder: Path, problems: Problems, max_side: int) -> None:
        super().__init__(folder, problems, max_side)
        self._fixations: dict[str, npt.NDArray[np.uint16]] = {}

    def add(self, photo: Sequence[Item]) -> None:
        """All conditions of one photo."""
        first = photo[0]
        read = self._read(first.image, first.photo)
        if read is None:
            return
        digest, pixels = read
        size = (pixels.shape[1], pixels.shape[0])
        if max(size) > _LARGEST_SIDE:
            self.problems.add(f"images with a side above {_LARGEST_SIDE} pixels", first.image.name)
            return
        before = len(self.rows)
        for item in photo:
            if item.image != first.image and not _same_photo(item.image, digest, size):
                kind = "conditions whose image has another size than the photo's first"
                self.problems.add(kind, item.image.name)
            else:
                self._add_condition(item, size)
        if len(self.rows) > before:
            self._keep(digest, first.photo, pixels)

    def _add_condition(self, item: Item, size: tuple[int, int]) -> None:
        """One viewing condition of a photo of this width and height."""
        points = _fixations(item, size, self.problems)
        blurred = _map(item, size, self.problems)
        if len(points) == 0 and blurred is None:
            self.problems.add("pairs left without map and fixations", f"{item.photo} {item.condition}")
            return
        key = f"{item.photo}_{item.condition}"
        self._fixations[key] = points
        if blurred is not None:
            write_image(self.folder / "maps" / f"{key}.png", blurred)
        self.rows.append(
            {"image": item.photo, "condition": item.condition, "text": item.text, "width": size[0],
             "height": size[1], "fixations": len(points), "split": item.split}
        )  # fmt: skip

    def finish(self) -> None:
        """Write ``pairs.csv`` and ``fixations.npz``."""
        rows = sorted(self.rows, key=lambda row: (row["image"], row["condition"]))
        self._write_table("pairs.csv", COLUMNS, rows)
        with zipfile.ZipFile(self.folder / "fixations.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            for key, points in self._fixations.items():
                with archive.open(f"{key}.npy", "w") as file:
                    np.lib.format.write_array(file, points, allow_pickle=False)


class _PhraseWriter(_Writer):
    """``phrases.csv``, whose boxes are shares of the photo, clipped to it."""

    reader = PhraseSet

    def add(self, photo: SourcePhoto) -> None:
        """All texts of one photo."""
        read = self._read(photo.file, photo.name)
        if read is None:
            return
        digest, pixels = read
        height, width = pixels.shape[:2]
        frame = photo.frame or (width, height)
        # Each side of a shrunk photo is off by less than a pixel; one that was turned is another.
        off = abs(frame[0] * height - frame[1] * width)
        if frame != SHARES and off > max(frame[0] + frame[1], width + height):
            self.problems.add(
                "photos of another shape than the source says",
                f"{photo.file.name} [{width}x{height}, not {frame[0]:g}x{frame[1]:g}]",
            )
            return
        rows = [
            {"image": photo.name, "phrase": " / ".join(row.texts), "boxes": format_boxes(boxes), "kind": row.kind,
             "split": photo.split}
            for row in photo.rows.values()
            if (boxes := _boxes(row, photo, frame, self.problems)) is not None
        ]  # fmt: skip
        self.rows += rows
        if rows:
            self._keep(digest, photo.name, pixels)

    def finish(self) -> None:
        """Write ``phrases.csv``."""
        self._write_table("phrases.csv", PHRASE_COLUMNS, self.rows)


def _digest_of(path: Path) -> str:
    """SHA-256 of a file; of its name where it cannot be read, which reading it as an image will tell."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return str(path)


def _same_photo(path: Path, digest: str, size: tuple[int, int]) -> bool:
    """Whether a file holds the photo too: the same bytes, or as many pixels (it may be saved anew)."""
    if _digest_of(path) == digest:
        return True
    try:
        height, width = read_image(path).shape[:2]
    except ImageError:
        # The photo is known from another file, so this one is not needed.
        return True
    return (width, height) == size


def _fixations(item: Item, size: tuple[int, int], problems: Problems) -> npt.NDArray[np.uint16]:
    """Fixations inside the photo; none where there is no usable file."""
    if item.fixations is None:
        return np.zeros((0, 2), np.uint16)
    try:
        points = read_points(item.fixations, size)
    except DataError as error:
        problems.add("files of fixations that cannot be used", f"{item.fixations.name} [{error}]")
        return np.zeros((0, 2), np.uint16)
    inside = (points >= 0).all(axis=1) & (points < np.array(size)).all(axis=1)
    if not inside.all():
        problems.add(
            "files with fixations outside the photo, left out",
            f"{item.fixations.name} [{np.count_nonzero(~inside)} of {len(points)}]",
        )
    return points[inside].astype(np.uint16)


def _map(item: Item, size: tuple[int, int], problems: Problems) -> npt.NDArray[np.uint8] | None:
    """The published map in 8 bits, at most `MAP_SIDE` long and of the photo's shape."""
    if item.map is None:
        return None
    try:
        values = read_map(item.map)
    except DataError as error:
        problems.add("maps that cannot be used", f"{item.map.name} [{error}]")
        return None
    height, width = values.shape
    # Rounding by one pixel is allowed.
    if abs(width * size[1] - height * size[0]) > 2 * max(*size, height, width):
        problems.note("maps of another shape than their photo, stretched to it", item.map.name)
        side = max(height, width)
        scale = side / max(size)
        fitted = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        values = cv2.resize(values, fitted, interpolation=cv2.INTER_AREA).astype(np.float32)
    small = shrunk(values, MAP_SIDE).round().astype(np.uint8)
    if not small.any():
        problems.add("maps without a value above zero", item.map.name)
        return None
    return small


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
            (x0, y0), (x1, y1) = (np.array(corner) / frame for corner in (raw[:2], raw[2:]))
            if max(-x0, -y0, x1 - 1, y1 - 1) > _BEYOND:
                problems.note("boxes that reach beyond the photo, clipped", named)
            usable.append(box)
    return usable if usable or not row.boxes else None


def _clipped(raw: RawBox, frame: tuple[float, float]) -> Box | None:
    """A box in shares of the photo, cut at its edges; None if nothing of it is inside."""
    x0, x1 = (min(max(edge / frame[0], 0.0), 1.0) for edge in (raw[0], raw[2]))
    y0, y1 = (min(max(edge / frame[1], 0.0), 1.0) for edge in (raw[1], raw[3]))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None
