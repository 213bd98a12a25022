"""What a reduced precision is calibrated and judged on: photos with texts, kept apart."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import cv2
import numpy as np

from salgan_edge import samples
from salgan_edge.errors import DataError
from salgan_edge.evaluate.measure import pairs_of, some_of
from salgan_edge.gaze.folder import GazeFolder, photos
from salgan_edge.images import IMAGE_SUFFIXES, read_image

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    FloatMap = npt.NDArray[np.float32]
    Pixels = npt.NDArray[np.uint8]

__all__ = ["PROMPTS_FILE", "View", "Views", "read_views"]

CALIBRATION_PROMPTS = (
    "a person",
    "a cup on a table",
    "the eyes of an animal",
    "something red",
    "text or a sign",
)
GATE_PROMPTS = ("a face", "a spoon", "the background on the left", "a flag", "the ears of a cat")
"""Other texts than those of calibration; the first of each view is free viewing."""

PROMPTS_FILE = "prompts.txt"
"""In a folder of one's own photos: a text in each line, used in place of the two lists above."""

_CALIBRATION_PHOTOS = 24
_GATE_PHOTOS = 48
_LONGEST = 640


@dataclass(frozen=True)
class View:
    """A photo with texts."""

    name: str
    photo: Pixels = field(repr=False)
    """RGB (H, W, 3)."""
    texts: tuple[str | None, ...]
    """None is free viewing."""
    human: tuple[FloatMap, ...] = field(default=(), repr=False)
    """Human saliency map for each text; empty where there are none."""
    guided: tuple[tuple[int, int], ...] = ()
    """Pairs of texts, by number, between which `guide` decides."""


@dataclass(frozen=True)
class Views:
    """Two sets of views without a photo in common, and without a text in common where nobody gave texts."""

    calibration: tuple[View, ...]
    gate: tuple[View, ...]
    source: str
    """Where both come from, for reports."""

    @property
    def human(self) -> bool:
        """Whether the gate has human maps."""
        return bool(self.gate[0].human)


def read_views(data: Path | None = None, calibration: Path | None = None) -> Views:
    """Views to calibrate on and to judge by.

    Args:
        data: packed gaze folder. Its validation photos with their human maps are the gate, photos of
            its training split the calibration.
        calibration: folder of photos. They are the calibration, or where there is no `data` divided
            by a hash of the file into both. `PROMPTS_FILE` in it may give texts.

    Without either, the sample photos that the package ships are divided: their left halves, mirrored
    and recoloured, are the calibration, their right halves the gate.

    Raises:
        DataError: a folder cannot be used, or has too few photos.
        ImageError: a photo cannot be read.
    """
    own = None if calibration is None else _own_photos(calibration)
    if data is None:
        if own is None:
            left, right = _sample_views()
            return Views(left, right, "sample photos, left halves and right halves")
        return Views(*own, f"photos of {calibration}, divided by a hash of each file")
    folder = GazeFolder(data)
    gate = _gaze_views(folder, "validation", None, human=True)
    if own is not None:
        return Views(own[0] + own[1], gate, f"photos of {calibration}; {folder.name}, split validation")
    if folder.select("train"):
        told = f"{folder.name}, split train; {folder.name}, split validation"
        return Views(_gaze_views(folder, "train", _CALIBRATION_PHOTOS, human=False), gate, told)
    left, right = _sample_views()
    return Views(left + right, gate, f"sample photos; {folder.name}, split validation")


def _gaze_views(folder: GazeFolder, split: str, limit: int | None, *, human: bool) -> tuple[View, ...]:
    views = []
    for group in some_of(list(photos(pairs_of(folder, split)).values()), limit):
        order = {pair.condition: n for n, pair in enumerate(group)}
        both = {"salient", "nonsalient"} <= set(order)
        views.append(
            View(
                name=group[0].image,
                photo=folder.image(group[0].image),
                texts=tuple(pair.text or None for pair in group),
                human=tuple(folder.saliency_map(pair) for pair in group) if human else (),
                guided=((order["salient"], order["nonsalient"]),) if both else (),
            )
        )
    return tuple(views)


def _own_photos(folder: Path) -> tuple[tuple[View, ...], tuple[View, ...]]:
    """Views of a folder of photos, divided by the first bit of the SHA-256 of each file.

    A copy of a photo so falls on the same side.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: a folder of photos was expected for --calibration")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    prompts = _prompts(folder)
    sides: tuple[list[View], list[View]] = ([], [])
    for path in files:
        side = hashlib.sha256(path.read_bytes()).digest()[0] >> 7
        if len(sides[side]) < (_CALIBRATION_PHOTOS, _GATE_PHOTOS)[side]:
            texts = (None, *(prompts[side::2] or prompts))
            sides[side].append(_view(path.name, _shrunk(read_image(path)), texts))
    if not sides[0] or not sides[1]:
        raise DataError(
            f"{folder} has {len(files)} photos, of which {len(sides[0])} fall to calibration and {len(sides[1])} to the gate: "
            "both need some, add photos (a dozen or more)"
        )
    return tuple(sides[0]), tuple(sides[1])


def _prompts(folder: Path) -> list[str]:
    """Texts of a folder, or in turn those of calibration and of the gate."""
    given = folder / PROMPTS_FILE
    if not given.is_file():
        return [text for both in zip(CALIBRATION_PROMPTS, GATE_PROMPTS, strict=True) for text in both]
    try:
        lines = given.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read {given}: {error}; a text in each line was expected, in UTF-8"
        ) from error
    texts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if len(texts) < 2:
        raise DataError(f"{given} has {len(texts)} texts: at least 2 were expected, one in each line")
    return texts


def _sample_views() -> tuple[tuple[View, ...], tuple[View, ...]]:
    """Left and right halves of the sample photos: no pixel and no text is on both sides."""
    sides: tuple[list[View], list[View]] = ([], [])
    for name in samples.NAMES:
        photo = samples.load(name)
        middle = photo.shape[1] // 2
        halves = ((photo[:, :middle], CALIBRATION_PROMPTS), (photo[:, middle:], GATE_PROMPTS))
        for side, (half, prompts) in zip(sides, halves, strict=True):
            for look, pixels in _looks(half):
                side.append(_view(f"{name}, {look}", pixels, (None, *prompts)))
    return tuple(sides[0]), tuple(sides[1])


def _looks(photo: Pixels) -> list[tuple[str, Pixels]]:
    """A photo in other parts, turns and colours."""
    height, width = photo.shape[:2]
    side = min(height, width)
    middle, left = (height - side) // 2, (width - side) // 2
    square = photo[middle : middle + side, left : left + side]
    grey = np.repeat(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    bright = 255 * (np.arange(256) / 255) ** 0.6
    dark = 0.55 * np.arange(256)
    looks = [
        ("whole", photo),
        ("mirrored square", square[:, ::-1]),
        ("upper part", photo[: height * 2 // 3]),
        ("lower part, mirrored", photo[height // 3 :, ::-1]),
        ("dark", dark.astype(np.uint8)[square]),
        ("bright, colours exchanged", bright.astype(np.uint8)[photo[..., ::-1]]),
        ("grey", np.asarray(grey, np.uint8)),
    ]
    return [(name, np.ascontiguousarray(pixels)) for name, pixels in looks]


def _view(name: str, photo: Pixels, texts: tuple[str | None, ...]) -> View:
    """A view without human maps: `guide` decides between every two texts."""
    told = [n for n, text in enumerate(texts) if text is not None]
    return View(name, photo, texts, guided=tuple(combinations(told, 2)))


def _shrunk(photo: Pixels) -> Pixels:
    scale = _LONGEST / max(photo.shape[:2])
    if scale >= 1:
        return photo
    size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
    return np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
