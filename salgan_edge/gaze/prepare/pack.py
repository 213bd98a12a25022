"""Writing a packed gaze folder: whole, or not at all."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import secrets
import shutil
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from salgan_edge.errors import DataError, ImageError, OutputError
from salgan_edge.gaze.folder import COLUMNS, GazeFolder
from salgan_edge.gaze.prepare.maps import MAP_SIDE, read_map, shrunk
from salgan_edge.gaze.prepare.points import read_points
from salgan_edge.images import read_image, write_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from salgan_edge.gaze.info import DatasetInfo
    from salgan_edge.gaze.prepare.layout import Item
    from salgan_edge.gaze.problems import Problems

    Progress = Callable[[Sequence[list[Item]]], Iterable[list[Item]]]

__all__ = ["JPEG_QUALITY", "digest_of", "pack", "replacing", "require_free", "stop_if_strict"]

JPEG_QUALITY = 90

_LARGEST_SIDE = 65535
"""Coordinates are stored in 16 bits."""

_PARTS = frozenset(
    {"pairs.csv", "phrases.csv", "images", "maps", "fixations.npz", "dataset.json", "observers.npz"}
)
"""What a packed folder may hold; only such a folder is ever replaced."""


@dataclass
class _Packed:
    """Rows and fixations gathered so far."""

    rows: list[dict[str, str | int]] = field(default_factory=list)
    fixations: dict[str, npt.NDArray[np.uint16]] = field(default_factory=dict)
    photos: dict[str, str] = field(default_factory=dict)
    """Names of photos by SHA-256 of their files."""


def pack(
    items: Sequence[Item],
    output: Path,
    info: DatasetInfo,
    problems: Problems,
    *,
    max_side: int = 512,
    overwrite: bool = False,
    strict: bool = False,
    progress: Progress = lambda groups: groups,
) -> None:
    """Write a packed folder.

    Photos are JPEG with the longest side at most `max_side`, maps 8-bit PNG with the longest side at
    most `MAP_SIDE`; fixations and the columns ``width`` and ``height`` stay in the original photo's
    pixels. The folder is built beside `output` and renamed, so that an interruption leaves nothing.

    Args:
        items: what to pack, conditions of one photo anywhere in the list.
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
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.photo, []).append(item)
    with replacing(output) as folder:
        packed = _Packed()
        for group in progress(list(groups.values())):
            _pack_photo(group, folder, packed, problems, max_side)
        stop_if_strict(problems, strict=strict)
        if not packed.rows:
            raise DataError("; ".join(["nothing usable is left", *problems.lines()]))
        _write_tables(packed, folder)
        info.write(folder / "dataset.json")
        # What was just written must be what the reader takes.
        GazeFolder(folder)


def require_free(output: Path, *, overwrite: bool) -> None:
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
            f"{output} is no packed folder (it holds {', '.join(foreign[:3])}): --overwrite replaces packed folders only"
        )


def stop_if_strict(problems: Problems, *, strict: bool) -> None:
    """Refuse to leave anything out.

    Raises:
        DataError: with `strict`, something had to be.
    """
    if strict and problems.skipped:
        raise DataError(f"--strict, and these cannot be used: {'; '.join(problems.lines())}")


@contextlib.contextmanager
def replacing(output: Path) -> Iterator[Path]:
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


def _pack_photo(
    group: Sequence[Item], folder: Path, packed: _Packed, problems: Problems, max_side: int
) -> None:
    """All conditions of one photo."""
    first = group[0]
    digest = digest_of(first.image)
    same = packed.photos.get(digest)
    if same is not None:
        # One photo under two names could end up on both sides of a split.
        problems.add("photos that are copies of another", f"{first.photo} of {same}")
        return
    try:
        pixels = read_image(first.image)
    except ImageError:
        problems.add("images that cannot be read", first.image.name)
        return
    height, width = pixels.shape[:2]
    if max(height, width) > _LARGEST_SIDE:
        problems.add(f"images with a side above {_LARGEST_SIDE} pixels", first.image.name)
        return
    rows = len(packed.rows)
    for item in group:
        if item.image != first.image and not _same_photo(item.image, digest, (width, height)):
            problems.add("conditions whose image has another size than the photo's first", item.image.name)
            continue
        points = _fixations(item, (width, height), problems)
        blurred = _map(item, (width, height), problems)
        if len(points) == 0 and blurred is None:
            problems.add("pairs left without map and fixations", f"{item.photo} {item.condition}")
            continue
        key = f"{item.photo}_{item.condition}"
        packed.fixations[key] = points
        if blurred is not None:
            write_image(folder / "maps" / f"{key}.png", blurred)
        packed.rows.append(
            {"image": item.photo, "condition": item.condition, "text": item.text, "width": width,
             "height": height, "fixations": len(points), "split": item.split}
        )  # fmt: skip
    if len(packed.rows) > rows:
        packed.photos[digest] = first.photo
        small = shrunk(pixels, max_side)
        write_image(folder / "images" / f"{first.photo}.jpg", small.astype(np.uint8), JPEG_QUALITY)


def digest_of(path: Path) -> str:
    """SHA-256 of a file; of its name where it cannot be read, which reading it as an image will tell."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return str(path)


def _same_photo(path: Path, digest: str, size: tuple[int, int]) -> bool:
    """Whether a file holds the photo too: the same bytes, or as many pixels (it may be saved anew)."""
    if digest_of(path) == digest:
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
    # One pixel of rounding is no other shape.
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


def _write_tables(packed: _Packed, folder: Path) -> None:
    rows = sorted(packed.rows, key=lambda row: (str(row["image"]), str(row["condition"])))
    columns = [*COLUMNS, "split"] if any(row["split"] for row in rows) else [*COLUMNS]
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    with zipfile.ZipFile(folder / "fixations.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for key, points in packed.fixations.items():
            with archive.open(f"{key}.npy", "w") as file:
                np.lib.format.write_array(file, points, allow_pickle=False)
