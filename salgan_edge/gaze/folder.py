"""Reader of packed gaze folders: ``pairs.csv``, ``images/``, ``fixations.npz``, ``maps/``."""

from __future__ import annotations

import csv
import zipfile
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from salgan_edge.errors import DataError
from salgan_edge.gaze.info import DatasetInfo
from salgan_edge.gaze.problems import Problems
from salgan_edge.gaze.split import SPLIT_ID, SPLITS, split_photos
from salgan_edge.images import read_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    FloatMap = npt.NDArray[np.float32]
    Points = npt.NDArray[np.integer]

__all__ = ["COLUMNS", "FREE_VIEWING", "IMAGE_SUFFIXES", "GazeFolder", "GazePair", "photos"]

COLUMNS = ("image", "condition", "text", "width", "height", "fixations")
"""Columns that ``pairs.csv`` needs (``fixations`` not where there are maps); ``split`` may be added."""

FREE_VIEWING = "pure"
"""The condition whose viewers were told nothing; every other one needs a text."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
"""What the photos in ``images/`` may end in."""


@dataclass(frozen=True)
class GazePair:
    """One photo under one viewing condition."""

    image: str
    """Name of the photo, without suffix."""
    condition: str
    """``pure``, ``whole``, ``general``, ``salient`` or ``nonsalient``; another data set may have others."""
    text: str
    """What the viewers were told; empty for free viewing."""
    width: int
    height: int
    """Pixels of the original photo, in which fixations are given."""
    split: str
    """``train``, ``validation`` or ``test``."""

    @property
    def key(self) -> str:
        """Key of the pair in ``fixations.npz`` and name of its map."""
        return f"{self.image}_{self.condition}"


class GazeFolder:
    """A packed data set, split by photo.

    A pair needs fixations, a published map, or both. Without a map, the fixations are blurred
    (`saliency_map`). Without fixations (``fixations`` is 0 in ``pairs.csv``, and the key, or for a
    data set of maps alone the whole of ``fixations.npz``, may be absent) the metrics that need them
    cannot be had, and `has_fixations` is false.

    Photos are split by the rule of `split_photos`, unless the column ``split`` of ``pairs.csv``
    says otherwise.

    Attributes:
        folder: where it lies.
        name: name of the folder.
        info: what ``dataset.json`` says.
        pairs: all pairs, in the order of ``pairs.csv``.
        split_id: names the rule of the splits, or says that ``pairs.csv`` gives them.

    Raises:
        DataError: the folder or a part of it is missing or wrong; the message lists all that is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        if not folder.is_dir():
            raise DataError(f"{folder} is no folder: a packed gaze folder was expected, see the README")
        parts = ["pairs.csv", "fixations.npz", "images"]
        if (folder / "maps").is_dir():
            parts.remove("fixations.npz")
        missing = [part for part in parts if not (folder / part).exists()]
        if missing:
            raise DataError(
                f"{folder} has no {', '.join(missing)}: a packed folder was expected; make one with salgan-edge data prepare"
            )
        self.info = DatasetInfo.read(folder / "dataset.json")
        rows = _rows(folder / "pairs.csv")
        self._files = _files_by_stem(folder / "images", IMAGE_SUFFIXES)
        self._maps = _files_by_stem(folder / "maps", (".png",))
        self._fixations = _arrays(folder / "fixations.npz")
        problems = Problems()
        given: dict[str, str] = {}
        read = [(pair, row) for row in rows if (pair := _pair(row, given, problems)) is not None]
        self._check(read, problems)
        if problems.skipped:
            raise DataError(
                f"{folder} cannot be used: {'; '.join(problems.lines())}: mend it, or prepare it again with 'salgan-edge data prepare'"
            )
        conditions: dict[str, set[str]] = {}
        for pair, _ in read:
            conditions.setdefault(pair.image, set()).add(pair.condition)
        split = split_photos(conditions, given)
        self.split_id = "given in pairs.csv" if given else SPLIT_ID
        self.pairs = [replace(pair, split=split[pair.image]) for pair, _ in read]

    def select(self, split: str) -> list[GazePair]:
        """The pairs of one split, all conditions of a photo together."""
        return sorted((pair for pair in self.pairs if pair.split == split), key=lambda pair: pair.key)

    def image(self, name: str) -> npt.NDArray[np.uint8]:
        """Photo as RGB uint8 (H, W, 3)."""
        files = self._files.get(name)
        return read_image(files[0] if files else self.folder / "images" / f"{name}.jpg")

    def has_fixations(self, pair: GazePair) -> bool:
        """Whether metrics that need fixations can be had for the pair."""
        return len(self._fixations.get(pair.key, ())) > 0

    def has_map(self, pair: GazePair) -> bool:
        """Whether the data set published a map for the pair."""
        return pair.key in self._maps

    def fixations(self, pair: GazePair) -> npt.NDArray[np.float64]:
        """Fixations (n, 2) as x and y in 0..1 of the photo's width and height; n may be 0.

        The middle of a pixel is meant, hence the half.
        """
        if pair.key not in self._fixations:
            return np.zeros((0, 2))
        points = self._fixations[pair.key].astype(np.float64)
        scaled: npt.NDArray[np.float64] = (points + 0.5) / np.array([pair.width, pair.height])
        return scaled

    def fixation_map(self, pair: GazePair, shape: tuple[int, int]) -> npt.NDArray[np.int32]:
        """Number of fixations in each cell of a grid (h, w)."""
        counts = np.zeros(shape, np.int32)
        points = self.fixations(pair)
        columns = np.minimum((points[:, 0] * shape[1]).astype(int), shape[1] - 1)
        rows = np.minimum((points[:, 1] * shape[0]).astype(int), shape[0] - 1)
        np.add.at(counts, (rows, columns), 1)
        return counts

    def saliency_map(self, pair: GazePair) -> FloatMap:
        """Human saliency map, float32 (h, w), largest value 1.

        The published map where the data set has one, else the fixations blurred with a Gaussian
        of one degree of visual angle (`DatasetInfo.blur_degree_share`).

        Raises:
            DataError: the published map is unreadable or has no value above zero.
        """
        if self.has_map(pair):
            published = self._maps[pair.key][0]
            read = cv2.imread(str(published), cv2.IMREAD_GRAYSCALE)
            if read is None:
                raise DataError(f"{published} is no readable image: unpack the data set again")
            values = read.astype(np.float32)
        else:
            scale = 320 / max(pair.width, pair.height)
            shape = (max(1, round(pair.height * scale)), max(1, round(pair.width * scale)))
            counts = self.fixation_map(pair, shape).astype(np.float32)
            sigma = self.info.blur_degree_share * shape[1]
            values = cv2.GaussianBlur(counts, (0, 0), sigma).astype(np.float32)
        peak = float(values.max())
        if peak <= 0:
            raise DataError(
                f"{self.name}/{pair.key} has an empty saliency map: remove the pair from pairs.csv"
            )
        return values / np.float32(peak)

    def _check(self, read: Sequence[tuple[GazePair, dict[str, str]]], problems: Problems) -> None:
        """Hold the pairs against the files."""
        keys: set[str] = set()
        sizes: dict[str, tuple[int, int]] = {}
        for pair, row in read:
            if pair.key in keys:
                problems.add("rows that occur twice", pair.key)
            keys.add(pair.key)
            if sizes.setdefault(pair.image, (pair.width, pair.height)) != (pair.width, pair.height):
                problems.add("photos of two sizes", pair.image)
            files = len(self._files.get(pair.image, ()))
            if files == 0:
                problems.add("photos without a file in images/", pair.image)
            elif files > 1:
                problems.add("photos with several files in images/", pair.image)
            self._check_fixations(pair, row.get("fixations", ""), problems)

    def _check_fixations(self, pair: GazePair, counted: str, problems: Problems) -> None:
        points = self._fixations.get(pair.key)
        if points is None:
            if counted not in ("", "0"):
                problems.add("keys missing from fixations.npz", pair.key)
            elif not self.has_map(pair):
                problems.add("pairs with neither fixations nor a map", pair.key)
        elif points.ndim != 2 or points.shape[1] != 2 or points.dtype.kind not in "iu":
            problems.add("fixations that are no whole numbers of shape (n, 2)", pair.key)
        elif len(points) == 0:
            if not self.has_map(pair):
                problems.add("pairs with neither fixations nor a map", pair.key)
        elif points.min() < 0 or points[:, 0].max() >= pair.width or points[:, 1].max() >= pair.height:
            problems.add("pairs with fixations outside the photo", pair.key)


def photos(pairs: Sequence[GazePair]) -> dict[str, list[GazePair]]:
    """Pairs by photo, in order of appearance."""
    grouped: dict[str, list[GazePair]] = {}
    for pair in pairs:
        grouped.setdefault(pair.image, []).append(pair)
    return grouped


def _rows(path: Path) -> list[dict[str, str]]:
    """Rows of ``pairs.csv``, stripped; cells that are not there are empty."""
    try:
        # A spreadsheet program puts a byte order mark first.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [{key: (row[key] or "").strip() for key in row if key is not None} for row in reader]
            found = list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}; a table in UTF-8 was expected") from error
    # Data sets of maps alone have no fixations to count.
    needed = [c for c in COLUMNS if c != "fixations" or not (path.parent / "maps").is_dir()]
    missing = [column for column in needed if column not in found]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}: it has {', '.join(found) or 'none'}; {', '.join(COLUMNS)} were expected"
        )
    if not rows:
        raise DataError(f"{path} has no rows: one for each photo and viewing condition was expected")
    return rows


def _pair(row: dict[str, str], given: dict[str, str], problems: Problems) -> GazePair | None:
    """A row as a pair without its split, which goes into `given` where the row has one."""
    image, condition, text = row["image"], row["condition"], row["text"]
    key = f"{image}_{condition}"
    usable = True
    if not image or not condition:
        problems.add("rows without an image or a condition", key.strip("_") or "(empty row)")
        usable = False
    if not _is_size(row["width"]) or not _is_size(row["height"]):
        problems.add("rows whose width or height is no positive whole number", key)
        usable = False
    if condition != FREE_VIEWING and not text:
        problems.add("conditions that need a text and have none", key)
    elif condition == FREE_VIEWING and text:
        problems.add(f"free viewing ({FREE_VIEWING}) with a text", key)
    split = row.get("split", "")
    if split and split not in SPLITS:
        problems.add(f"splits other than {', '.join(SPLITS)}", f"{key} {split!r}")
    elif split and given.setdefault(image, split) != split:
        problems.add("photos in two splits", image)
    if not usable:
        return None
    return GazePair(image, condition, text, int(row["width"]), int(row["height"]), split="")


def _is_size(cell: str) -> bool:
    return cell.isascii() and cell.isdigit() and int(cell) > 0


def _files_by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, list[Path]]:
    """Files of a folder by name without suffix; none where there is no folder."""
    found: dict[str, list[Path]] = {}
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in suffixes:
                found.setdefault(path.stem, []).append(path)
    return found


def _arrays(path: Path) -> dict[str, Points]:
    """Arrays of an npz file; none where there is no file."""
    if not path.exists():
        return {}
    try:
        # NumPy would leave a damaged file open that it had opened itself.
        with path.open("rb") as stream:
            file = np.load(stream)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("one array")  # noqa: TRY004, TRY301 - the reason, told below
            with file:
                return {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} is damaged or no npz file ({error}): prepare or unpack the data set again"
        ) from error
