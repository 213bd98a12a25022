"""Pointing: where a map's peak lies, how much of it lies in boxes, how far a text moved it; and the game on objects.

The game asks whether the peak of the map falls on an object once the model is told its name, after Zhang et al.,
"Top-down neural attention by excitation backprop", IJCV 2018, with a detector's boxes in place of annotations: of
every class of which it finds exactly one object in a photo, covering 1 % to 30 % of it, the model is asked for "a dog".
The game on texts is in `salgan_edge.evaluate.prompts`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from salgan_edge import metrics
from salgan_edge.errors import DataError, MissingDependencyError
from salgan_edge.evaluate.scores import MARGIN, ModelScores, Pointing
from salgan_edge.files import sha256, writing
from salgan_edge.gaze.detector import SCORE, Detection, Detector, object_prompt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from salgan_edge.evaluate.models import Model
    from salgan_edge.evaluate.scores import Bootstrap
    from salgan_edge.gaze.phrases import Box

    FloatMap = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]
    Pixels = npt.NDArray[np.uint8]

__all__ = [
    "BoxSource",
    "DetectedBoxes",
    "PointingGame",
    "covered",
    "inside",
    "lift",
    "peak",
    "single_objects",
    "text_effect",
    "variation",
]

_SMALLEST, _LARGEST = 0.01, 0.3
"""Share of the photo that an object's box may cover."""

_SMALLEST_SHARE = 1e-9


def peak(values: FloatMap) -> tuple[float, float]:
    """Middle of the largest pixel, x and y in shares of width and height; of several the first in reading order.

    >>> peak(np.array([[0, 0, 0, 1], [0, 0, 0, 0]], np.float32))
    (0.875, 0.25)
    """
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return (float(column) + 0.5) / values.shape[1], (float(row) + 0.5) / values.shape[0]


def inside(point: tuple[float, float], boxes: Iterable[Box], margin: float = MARGIN) -> bool:
    """Whether a point lies in one of the boxes, each widened by `margin` on every side.

    >>> inside((0.51, 0.3), [(0.2, 0.2, 0.5, 0.4)])
    True
    """
    x, y = point
    return any(
        x0 - margin <= x <= x1 + margin and y0 - margin <= y <= y1 + margin for x0, y0, x1, y1 in boxes
    )


def covered(boxes: Iterable[Box], shape: tuple[int, ...], margin: float = 0.0) -> Floats:
    """How much of each pixel lies in the boxes, (h, w) in 0..1; where several boxes cut one pixel, the most of them.

    Args:
        boxes: in shares of width and height.
        shape: (h, w).
        margin: by which each box is widened on every side; what leaves the photo is cut.
    """
    found = np.zeros(shape, np.float64)
    for x0, y0, x1, y1 in boxes:
        columns = _overlap(x0 - margin, x1 + margin, shape[1])
        rows = _overlap(y0 - margin, y1 + margin, shape[0])
        np.maximum(found, rows[:, None] * columns, out=found)
    return found


def _overlap(start: float, end: float, count: int) -> Floats:
    """Share of each of `count` equal cells of 0..1 that lies between start and end."""
    edges = np.arange(count + 1) / count
    shares: Floats = np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], start), 0, None) * count
    return shares


def lift(told: FloatMap, untold: FloatMap, boxes: Floats) -> float:
    """Share of the told map's mass in the boxes over that of the untold map.

    Args:
        told: non-negative map (h, w).
        untold: the same without the text.
        boxes: of `covered`, (h, w).

    Returns:
        1 where the text moves nothing; NaN where neither map has anything there.
    """
    shares = [float((_density(values) * boxes).sum()) for values in (told, untold)]
    if max(shares) <= _SMALLEST_SHARE:
        return float("nan")
    return shares[0] / max(shares[1], _SMALLEST_SHARE)


def text_effect(told: FloatMap, untold: FloatMap) -> float:
    """1 less the correlation of the two maps: 0 for the same map, 1 for unrelated ones, at most 2."""
    return 0.0 if np.array_equal(told, untold) else max(0.0, 1 - metrics.cc(told, untold))


def variation(told: FloatMap, untold: FloatMap) -> float:
    """Total variation distance of the two maps as densities, 0..1: the mass that the text moves."""
    return float(np.abs(_density(told) - _density(untold)).sum() / 2)


def _density(values: FloatMap) -> Floats:
    """A map with the sum 1; uniform where it is empty."""
    found = values.astype(np.float64)
    total = float(found.sum())
    return found / total if total > 0 else np.full(values.shape, 1 / values.size)


# The game on objects


class BoxSource(Protocol):
    """Where boxes of objects come from."""

    def objects(self, photo: Pixels) -> list[Detection]:
        """Objects of an RGB photo (H, W, 3)."""


class DetectedBoxes:
    """Boxes of a detector, perhaps remembered in a file.

    Args:
        path: ``yolox_nano_coco.onnx``.
        cache: JSON file that is read if it exists and was made by the same detector, and that
            `save` writes; boxes are found anew each time where None.

    Raises:
        DataError: the detector is missing or not YOLOX-Nano, or the cache is not such a file.
        MissingDependencyError: the package onnx is not installed.
    """

    def __init__(self, path: Path, cache: Path | None = None) -> None:
        if not path.is_file():
            raise DataError(f"{path} does not exist: the published yolox_nano_coco.onnx was expected")
        try:
            self._detector = Detector(path)
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"{error.name} is not installed: pip install 'salgan-edge[export]' (with cpu or gpu beside it)"
            ) from error
        except Exception as error:  # onnx and onnxruntime raise families of their own
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"{path} cannot be used as detector: {reason}; the published yolox_nano_coco.onnx was expected"
            ) from error
        self._cache = cache
        self._id = f"{sha256(path)[:16]} score {SCORE}"
        self._known: dict[str, list[Detection]] = {}
        self._changed = False
        if cache is not None and cache.exists():
            self._known = self._read(cache)

    def objects(self, photo: Pixels) -> list[Detection]:
        """Remembered or newly found objects of a photo."""
        # By content: two data sets may have photos of one name.
        key = hashlib.sha256(repr(photo.shape).encode() + photo.tobytes()).hexdigest()[:16]
        if key not in self._known:
            self._known[key] = self._detector.detect(photo)
            self._changed = True
        return self._known[key]

    def save(self) -> None:
        """Write the cache, if there is one and it grew.

        Raises:
            OutputError: the file cannot be written.
        """
        if self._cache is None or not self._changed:
            return
        rows = {
            photo: [[found.name, found.score, list(found.box)] for found in objects]
            for photo, objects in sorted(self._known.items())
        }
        with writing(self._cache) as temporary:
            temporary.write_text(json.dumps({"detector": self._id, "objects": rows}), encoding="utf-8")
        self._changed = False

    def _read(self, cache: Path) -> dict[str, list[Detection]]:
        try:
            raw = json.loads(cache.read_text(encoding="utf-8"))
            if raw["detector"] != self._id:
                # Another detector, or another threshold: its boxes do not count.
                return {}
            return {
                photo: [
                    Detection(str(label), float(score), (float(x0), float(y0), float(x1), float(y1)))
                    for label, score, (x0, y0, x1, y1) in rows
                ]
                for photo, rows in raw["objects"].items()
            }
        except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{cache} is not a cache of objects: name another file, or remove it ({type(error).__name__}: {error})"
            ) from error


def single_objects(found: Sequence[Detection]) -> list[Detection]:
    """Objects that are the only one of their class and neither too small nor too large."""
    names = [detection.name for detection in found]
    return [d for d in found if names.count(d.name) == 1 and _SMALLEST <= d.area <= _LARGEST]


@dataclass(frozen=True)
class _Case:
    photo: str
    hit: bool
    free: bool
    area: float


class PointingGame:
    """Plays with one model, photo by photo."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._cases: list[_Case] = []

    def play(self, name: str, photo: Pixels, found: Sequence[Detection]) -> None:
        """Ask for every single object of a photo; `found` are all its objects."""
        targets = single_objects(found)
        if not targets:
            return
        texts: list[str | None] = [None, *(object_prompt(target.name) for target in targets)]
        free, *told = self._model.maps(photo, texts)
        self._cases += [
            _Case(
                name,
                inside(peak(values), [target.box], margin=0),
                inside(peak(free), [target.box], margin=0),
                target.area,
            )
            for values, target in zip(told, targets, strict=True)
        ]

    def told(self, scores: ModelScores, bootstrap: Bootstrap) -> ModelScores:
        """The model's scores with what the game gave added; unchanged without a case."""
        photos = [case.photo for case in self._cases]
        hits = bootstrap.estimate([case.hit for case in self._cases], photos)
        free = bootstrap.estimate([case.free for case in self._cases], photos)
        if hits is None or free is None:
            return scores
        area = float(np.mean([case.area for case in self._cases]))
        return replace(scores, pointing=Pointing(len(photos), len(set(photos)), hits, free, area))
