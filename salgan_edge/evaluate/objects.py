"""The pointing game: told an object's name, does the map's peak fall on the object?

After Zhang et al., "Top-down neural attention by excitation backprop", IJCV 2018, with a detector's
boxes in place of annotations: of every class of which it finds exactly one object in a photo,
covering 1 % to 30 % of it, the model is asked for "a dog".
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from salgan_edge.errors import DataError
from salgan_edge.evaluate.pointing import inside, peak
from salgan_edge.evaluate.scores import ModelScores, Pointing
from salgan_edge.files import sha256, writing
from salgan_edge.gaze.detector import SCORE, Detection, Detector, object_prompt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from salgan_edge.evaluate.models import Model
    from salgan_edge.evaluate.resampling import Bootstrap

    Pixels = npt.NDArray[np.uint8]

__all__ = ["BoxSource", "DetectedBoxes", "PointingGame", "single_objects"]

SMALLEST, LARGEST = 0.01, 0.3
"""Share of the photo that an object's box may cover."""


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
        DataError: the detector is missing or no YOLOX-Nano, or the cache is no such file.
        MissingDependencyError: the package onnx is not installed (raised by the command).
    """

    def __init__(self, path: Path, cache: Path | None = None) -> None:
        if not path.is_file():
            raise DataError(f"{path} does not exist: the published yolox_nano_coco.onnx was expected")
        try:
            self._detector = Detector(path)
        except ModuleNotFoundError:
            raise
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
                f"{cache} is no cache of objects: name another file, or remove it ({type(error).__name__}: {error})"
            ) from error


def single_objects(found: Sequence[Detection]) -> list[Detection]:
    """Objects that are the only one of their class and neither too small nor too large."""
    names = [detection.name for detection in found]
    return [d for d in found if names.count(d.name) == 1 and SMALLEST <= d.area <= LARGEST]


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
