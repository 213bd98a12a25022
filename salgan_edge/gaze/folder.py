"""Packed gaze folders: what they hold, what they say about themselves, and how they are divided.

A folder has ``pairs.csv``, ``images/`` and ``fixations.npz`` or ``maps/`` or both, and perhaps ``dataset.json``.
"""

from __future__ import annotations

import csv
import hashlib
import json
import zipfile
import zlib
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from salgan_edge.errors import DataError
from salgan_edge.files import writing
from salgan_edge.images import read_image

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    FloatMap = npt.NDArray[np.float32]
    Points = npt.NDArray[np.integer]

__all__ = [
    "COLUMNS",
    "FREE_VIEWING",
    "IMAGE_SUFFIXES",
    "SPLITS",
    "SPLIT_ID",
    "DatasetInfo",
    "GazeFolder",
    "GazePair",
    "Problems",
    "files_by_stem",
    "photos",
    "read_rows",
    "split_names",
    "split_photos",
    "third",
]

COLUMNS = ("image", "condition", "text", "width", "height", "fixations")
"""Columns that ``pairs.csv`` needs (``fixations`` not where there are maps); ``split`` may be added."""

FREE_VIEWING = "pure"
"""The condition whose viewers were told nothing; every other one needs a text."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
"""What the photos in ``images/`` may end in."""

SPLITS = ("train", "validation", "test")

SPLIT_ID = "sha256-70/15/15-v1"
"""Names the rule of `split_photos`; written into checkpoints and bundles."""

_NAMED = 3
"""`Problems` names so many items of a kind and counts the others."""


# Faults


@dataclass
class Problems:
    """Faults by kind, in the order in which kinds were first met."""

    skipped: dict[str, list[str]] = field(default_factory=dict)
    """What was left out or forbids the use, by kind."""
    noted: dict[str, list[str]] = field(default_factory=dict)
    """What was used all the same, by kind."""

    def add(self, kind: str, item: str) -> None:
        """An item that cannot be used; the same item counts once for each kind."""
        _append(self.skipped, kind, item)

    def note(self, kind: str, item: str) -> None:
        """An item that is used, but not as it is."""
        _append(self.noted, kind, item)

    def lines(self) -> list[str]:
        """Faults as ``kind (number): first, second, third and 9 more``."""
        return [_line(kind, items) for kind, items in self.skipped.items()]

    def notes(self) -> list[str]:
        """Notes in the same form."""
        return [_line(kind, items) for kind, items in self.noted.items()]


def _append(kinds: dict[str, list[str]], kind: str, item: str) -> None:
    items = kinds.setdefault(kind, [])
    # Faults of one item follow each other, so the last one tells whether it is known.
    if not items or items[-1] != item:
        items.append(item)


def _line(kind: str, items: list[str]) -> str:
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return f"{kind} ({len(items)}): {', '.join(items[:_NAMED])}{more}"


# Splits by photo: all viewing conditions of one photo are in one split


def split_names(names: Iterable[str]) -> dict[str, str]:
    """``train``, ``validation`` or ``test`` for each photo name, 70/15/15.

    The photos are ordered by the SHA-256 of their name, so the split depends on the names alone:
    not on their order, the machine or a random generator.
    """
    ordered = sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    validation, test = round(0.15 * len(ordered)), round(0.15 * len(ordered))
    train = len(ordered) - validation - test
    return {
        name: "train" if n < train else "validation" if n < train + validation else "test"
        for n, name in enumerate(ordered)
    }


def split_photos(
    conditions: Mapping[str, Collection[str]], given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The split of each photo of a data set.

    Photos with a text for the whole scene (condition ``whole``) and all others are split apart by
    `split_names`, so that every condition of SJTU-TIS has its share in each split.

    Args:
        conditions: viewing conditions by photo.
        given: splits that the data set prescribes, by photo; they win, and the rule divides the rest.
    """
    given = given or {}
    free = [name for name in conditions if name not in given]
    whole = [name for name in free if "whole" in conditions[name]]
    others = [name for name in free if "whole" not in conditions[name]]
    prescribed = {name: given[name] for name in conditions if name in given}
    return {**split_names(whole), **split_names(others), **prescribed}


def third(name: str) -> str:
    """Which third of the photos a name belongs to, by a hash of its own: ``1/3``, ``2/3`` or ``3/3``."""
    number = int(hashlib.sha256(f"third {name}".encode()).hexdigest(), 16) % 3
    return f"{number + 1}/3"


# The folder


@dataclass(frozen=True)
class DatasetInfo:
    """Name, terms and viewing set-up of a data set; every field may be left out of the file.

    Raises:
        ValueError: a field is out of its range.
    """

    name: str = ""
    """Name for people; empty: the folder's."""
    licence: str = ""
    """Terms of use, in the publisher's words."""
    source: str = ""
    """Where it comes from: a paper, an address."""
    blur_degree_share: float = 24 / 800
    """One degree of visual angle as a share of the photo's width: the standard deviation with which
    fixations are blurred where no map was published. The default is OSIE's set-up."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 < self.blur_degree_share < 0.5:
            raise ValueError(
                f"blur_degree_share is {self.blur_degree_share}: a share of the width in 0..0.5 was expected"
            )

    @classmethod
    def read(cls, path: Path) -> DatasetInfo:
        """The file's content; the defaults where there is no file. Other keys are ignored.

        Raises:
            DataError: the file is not a JSON object, or a value is of the wrong type or range.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {path}: {error}") from error
        try:
            raw = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{path} is not JSON ({error}): correct or remove it") from error
        if not isinstance(raw, dict):
            raise DataError(f"{path} holds no JSON object: correct or remove it")
        for key in ("name", "licence", "source"):
            if not isinstance(raw.get(key, ""), str):
                raise DataError(f"{path}: {key} is {raw[key]!r}, a text was expected: correct or remove it")
        share = raw.get("blur_degree_share", cls.blur_degree_share)
        if isinstance(share, bool) or not isinstance(share, int | float):
            raise DataError(
                f"{path}: blur_degree_share is {share!r}, a number was expected: correct or remove it"
            )
        try:
            return cls(raw.get("name", ""), raw.get("licence", ""), raw.get("source", ""), float(share))
        except ValueError as error:
            raise DataError(f"{path}: {error}: correct or remove it") from error

    def write(self, path: Path) -> None:
        """Write the fields that say something, as JSON."""
        fields = {key: value for key, value in asdict(self).items() if value != ""}
        with writing(path) as temporary:
            temporary.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_rows(path: Path, expected: str) -> list[dict[str, str]]:
    """Rows of a table in UTF-8, cells stripped; every row has all columns, missing cells are empty.

    Args:
        path: a ``.csv`` file with a heading.
        expected: what its rows should be, for the message about a table without any.

    Raises:
        DataError: the file is unreadable, no table, or has no rows.
    """
    try:
        # A spreadsheet program puts a byte order mark first.
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [
                {key: (value or "").strip() for key, value in row.items() if key is not None}
                for row in csv.DictReader(file)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}; a table in UTF-8 was expected") from error
    if not rows:
        raise DataError(f"{path} has no rows: {expected}")
    return rows


def files_by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, list[Path]]:
    """Files of a folder by name without suffix; none where it is missing."""
    found: dict[str, list[Path]] = {}
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in suffixes:
                found.setdefault(path.stem, []).append(path)
    return found


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
            raise DataError(f"{folder} is not a folder: a packed gaze folder was expected, see the README")
        parts = ["pairs.csv", "fixations.npz", "images"]
        if (folder / "maps").is_dir():
            parts.remove("fixations.npz")
        missing = [part for part in parts if not (folder / part).exists()]
        if missing:
            raise DataError(
                f"{folder} has no {', '.join(missing)}: a packed folder was expected; make one with salgan-edge data prepare"
            )
        self.info = DatasetInfo.read(folder / "dataset.json")
        rows = _pair_rows(folder / "pairs.csv")
        self._files = files_by_stem(folder / "images", IMAGE_SUFFIXES)
        self._maps = files_by_stem(folder / "maps", (".png",))
        self._fixations = _arrays(folder / "fixations.npz")
        problems = Problems()
        given: dict[str, str] = {}
        read = [(pair, row) for row in rows if (pair := _pair(row, given, problems)) is not None]
        self._check(read, problems)
        if problems.skipped:
            raise DataError(
                f"{folder} cannot be used: {'; '.join(problems.lines())}: correct it, or prepare it again with 'salgan-edge data prepare'"
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
                raise DataError(f"{published} is not a readable image: unpack the data set again")
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
            problems.add("fixations that are not whole numbers of shape (n, 2)", pair.key)
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


def _pair_rows(path: Path) -> list[dict[str, str]]:
    """Rows of ``pairs.csv``, whose columns are checked."""
    rows = read_rows(path, "one for each photo and viewing condition was expected")
    # Data sets of maps alone have no fixations to count.
    needed = [c for c in COLUMNS if c != "fixations" or not (path.parent / "maps").is_dir()]
    missing = [column for column in needed if column not in rows[0]]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}: it has {', '.join(rows[0])}; {', '.join(COLUMNS)} were expected"
        )
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
        problems.add("rows whose width or height is not a positive whole number", key)
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
            f"{path} is damaged or not an npz file ({error}): prepare or unpack the data set again"
        ) from error
