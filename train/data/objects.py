"""Targets made of boxes: where people look who are told to look for what lies in them.

They teach the generator to obey: the target is a Gaussian in each box of the named thing, plus a
share of the photo's free-viewing map, since people told to look for a dog still look elsewhere.
How wide and how large a share is measured on people: `salgan_edge.train.fit_targets`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from salgan_edge.train.data.coco import COCO_CLASSES, class_prompt
from salgan_edge.train.data.onnx_graph import cut
from salgan_edge.train.data.text_vectors import name_variants

from salgan_edge import contract
from salgan_edge.files import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["TARGETS", "Detection", "Detector", "TargetShape", "box_map", "object_map", "prompts_for"]

SCORE = 0.35
_FREE_VIEW_SHARE = 0.35
_WIDER = 0.5
"""Exponent that widens the Gaussian where gaze decides the place within a box."""
_UNSEEN = 0.25
"""Weight of places in a box that nobody looked at."""
_UNNOTICED = 0.2
"""Free viewing below about this much of its peak says little about where in a box people look."""

_SYNONYMS = {
    "person": ("a man", "a woman", "people", "a person"),
    "tv": ("a screen", "a television"),
    "couch": ("a sofa",),
    "cell phone": ("a phone", "a mobile phone"),
    "airplane": ("a plane",),
    "motorcycle": ("a motorbike",),
    "potted plant": ("a plant",),
    "dining table": ("a table",),
    "bicycle": ("a bike",),
    "donut": ("a doughnut",),
}
_PLURALS = {"person": "people", "bus": "buses", "bench": "benches", "sheep": "sheep", "knife": "knives",
            "wine glass": "wine glasses", "sandwich": "sandwiches", "couch": "couches", "toothbrush": "toothbrushes",
            "skis": "skis", "scissors": "scissors"}  # fmt: skip


@dataclass(frozen=True)
class TargetShape:
    """How a box becomes a target."""

    spread: float
    """Standard deviation of the Gaussian as a share of the box's sides."""
    blur: float
    """Standard deviation that is added in quadrature, as a share of the photo's sides: gaze on a small thing scatters."""
    floor: float
    """What a place is worth that nobody looks at when told nothing; the place most looked at is worth `floor` + 1."""
    share: float
    """Of the free-viewing map that is added to the largest value of 1."""


TARGETS = {"people": TargetShape(spread=0.35, blur=0.06, floor=0.5, share=0.35)}
"""Shapes by the name that `TrainConfig.object_target` gives them."""


@dataclass(frozen=True)
class Detection:
    """One object; the box is x0, y0, x1, y1 in 0..1 of the photo's width and height."""

    name: str
    score: float
    box: tuple[float, float, float, float]

    @property
    def area(self) -> float:
        """Share of the photo that the box covers."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


class Detector:
    """YOLOX-Nano on COCO's classes, for making targets; never shipped.

    Args:
        path: ``yolox_nano_coco.onnx``, input (1, 3, 640, 640) normalised RGB.
    """

    _SIDE = 416

    def __init__(self, path: Path) -> None:
        import onnxruntime  # noqa: PLC0415

        self._names = ("1062", "1063", "1045", "1102", "1103", "1085", "1142", "1143", "1125")
        # The published file is fixed to 640 pixels by its last reshapes, which are cut off here.
        model = cut(path, self._names, self._SIDE)
        self._input = model.graph.input[0].name
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def detect(self, photo: npt.NDArray[np.uint8]) -> list[Detection]:
        """Objects of an RGB photo (H, W, 3) with a score of at least `SCORE`."""
        scale = self._SIDE / max(photo.shape[:2])
        height, width = round(photo.shape[0] * scale), round(photo.shape[1] * scale)
        padded = np.full((self._SIDE, self._SIDE, 3), 114, np.uint8)
        padded[:height, :width] = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
        pixels = (padded / 255 - contract.IMAGENET_MEAN) / contract.IMAGENET_STD
        planes = pixels.transpose(2, 0, 1)[None].astype(np.float32)
        outputs = self._session.run(list(self._names), {self._input: planes})
        found: list[Detection] = []
        for level, stride in enumerate((8, 16, 32)):
            box, objectness, classes = (np.asarray(t)[0] for t in outputs[3 * level : 3 * level + 3])
            score = _sigmoid(classes) * _sigmoid(objectness)
            rows, columns = np.nonzero(score.max(0) >= SCORE)
            for y, x in zip(rows, columns, strict=True):
                dx, dy, w, h = box[:, y, x]
                centre_x, centre_y = (x + dx) * stride, (y + dy) * stride
                half_w, half_h = np.exp(w) * stride / 2, np.exp(h) * stride / 2
                edges = np.array([(centre_x - half_w) / width, (centre_y - half_h) / height,
                                  (centre_x + half_w) / width, (centre_y + half_h) / height])  # fmt: skip
                x0, y0, x1, y1 = (float(edge) for edge in edges.clip(0, 1))
                best = int(score[:, y, x].argmax())
                found.append(Detection(COCO_CLASSES[best], float(score[best, y, x]), (x0, y0, x1, y1)))
        return _suppressed(found)


def _sigmoid(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return (1 / (1 + np.exp(-x))).astype(np.float32)


def _suppressed(found: list[Detection], overlap: float = 0.5) -> list[Detection]:
    """Non-maximum suppression by class, with OpenCV's implementation."""
    kept: list[Detection] = []
    for name in sorted({d.name for d in found}):
        group = [d for d in found if d.name == name]
        boxes = [(d.box[0], d.box[1], d.box[2] - d.box[0], d.box[3] - d.box[1]) for d in group]
        # The function takes whole pixels in some versions, so the unit square is made large.
        whole = [tuple(round(10_000 * edge) for edge in box) for box in boxes]
        chosen = cv2.dnn.NMSBoxes(whole, [d.score for d in group], SCORE, overlap)
        kept += [group[int(n)] for n in np.asarray(chosen).ravel()]
    return kept


def detect_all(
    detector: Detector, photos: Mapping[str, Callable[[], npt.NDArray[np.uint8]]], cache: Path
) -> dict[str, list[Detection]]:
    """Detections of all photos by name, kept in the JSON file `cache`.

    Args:
        detector: looks at photos that the file does not have.
        photos: a function that reads each photo as RGB (H, W, 3).
        cache: JSON file.
    """
    found: dict[str, list[Detection]] = {}
    if cache.exists():
        raw = json.loads(cache.read_text())
        found = {name: [Detection(n, s, tuple(box)) for n, s, box in rows] for name, rows in raw.items()}
    missing = [name for name in photos if name not in found]
    found |= {name: detector.detect(photos[name]()) for name in missing}
    if missing:
        rows = {name: [(d.name, d.score, d.box) for d in those] for name, those in found.items()}
        with writing(cache) as temporary:
            temporary.write_text(json.dumps(rows))
    return {name: found[name] for name in photos}


def box_map(
    boxes: Sequence[tuple[float, float, float, float]],
    free_view: npt.NDArray[np.float32],
    shape: TargetShape = TARGETS["people"],
) -> npt.NDArray[np.float32]:
    """Target on the grid of `free_view` (h, w): where people look who are told what the boxes hold.

    Args:
        boxes: x0, y0, x1, y1 in shares of width and height.
        free_view: where people look when told nothing, largest value 1.
        shape: see `TargetShape`.
    """
    height, width = free_view.shape
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / width
    objects = np.zeros_like(free_view)
    for x0, y0, x1, y1 in boxes:
        sigma_x = np.hypot((x1 - x0) * shape.spread, shape.blur)
        sigma_y = np.hypot((y1 - y0) * shape.spread, shape.blur)
        bump = np.exp(-(((x - (x0 + x1) / 2) / sigma_x) ** 2 + ((y - (y0 + y1) / 2) / sigma_y) ** 2) / 2)
        bump = bump * (shape.floor + free_view)
        objects = np.maximum(objects, bump / bump.max())
    target: npt.NDArray[np.float32] = (objects + shape.share * free_view).astype(np.float32)
    return target


def object_map(
    boxes: list[Detection],
    free_view: npt.NDArray[np.float32],
    share: float = _FREE_VIEW_SHARE,
    *,
    gaze: bool = False,
) -> npt.NDArray[np.float32]:
    """Weak target on the grid of `free_view` (h, w), whose largest value is 1.

    A Gaussian in each box, standard deviation a quarter of its sides, largest value 1; plus
    `share` of the free-viewing map.

    Args:
        boxes: objects of one class.
        free_view: where people look when told nothing, largest value 1.
        share: of the free-viewing map that is added.
        gaze: within a box, follow the free-viewing map where it says something: told "a woman",
            people look at her face, not at the middle of her box.
    """
    height, width = free_view.shape
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / width
    objects = np.zeros_like(free_view)
    for found in boxes:
        x0, y0, x1, y1 = found.box
        sigma_x, sigma_y = max((x1 - x0) / 4, 0.5 / width), max((y1 - y0) / 4, 0.5 / height)
        bump = np.exp(-(((x - (x0 + x1) / 2) / sigma_x) ** 2 + ((y - (y0 + y1) / 2) / sigma_y) ** 2) / 2)
        if gaze:
            # What lies in the box; the tail of a neighbour is too low to count.
            seen = free_view * ((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1))
            bump = bump**_WIDER * (_UNSEEN + seen / (seen.max() + _UNNOTICED))
            bump = bump / bump.max()
        objects = np.maximum(objects, bump)
    target: npt.NDArray[np.float32] = (objects + share * free_view).astype(np.float32)
    return target


def prompts_for(name: str, count: int) -> list[str]:
    """How people would name one (or several) objects of a class; the first is the class prompt."""
    texts = [class_prompt(name), *name_variants(class_prompt(name))[1:], *_SYNONYMS.get(name, ())]
    if count > 1:
        plural = _PLURALS.get(name, f"{name}s")
        texts += [plural, f"the {plural}", f"two {plural}" if count == 2 else f"several {plural}"]
    return texts
