"""Boxes of COCO's classes by YOLOX-Nano: for pointing at objects and for making targets; never shipped.

It needs the published ``yolox_nano_coco.onnx``, the package onnx, and ONNX Runtime.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from salgan_edge import contract
from salgan_edge.files import writing
from salgan_edge.session import load_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt
    import onnx

__all__ = [
    "COCO_CLASSES",
    "SCORE",
    "Detection",
    "Detector",
    "class_prompt",
    "cut",
    "detect_all",
    "needed_tensors",
    "object_prompt",
]

SCORE = 0.35
"""Least score of an object."""

COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
    "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip


def class_prompt(name: str) -> str:
    """The prompt whose true CLIP vector stands for a class: "a dog".

    The tables of true vectors write "a" before every name, vowels too.
    """
    return f"a {name}"


def object_prompt(name: str) -> str:
    """How people ask for one object of a class: "a dog", "an apple"."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


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
        onnxruntime = load_onnxruntime()
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


def needed_tensors(graph: onnx.GraphProto, outputs: tuple[str, ...]) -> set[str]:
    """Names of all tensors that nodes compute on the way to `outputs`."""
    producers = {name: node for node in graph.node for name in node.output}
    needed: set[str] = set()
    pending = list(outputs)
    while pending:
        name = pending.pop()
        if name in producers and name not in needed:
            needed.add(name)
            pending.extend(producers[name].input)
    return needed


def cut(path: Path, outputs: tuple[str, ...], side: int) -> onnx.ModelProto:
    """A convolutional network up to some of its inner tensors, for square input of another size.

    Args:
        path: ONNX file with one input (1, channels, height, width).
        outputs: names of the tensors that become the outputs.
        side: height and width of the input in pixels.
    """
    import onnx  # noqa: PLC0415 - reading graphs is all that needs it

    model = onnx.load(path)
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side
    del model.graph.output[:]
    del model.graph.value_info[:]
    needed = needed_tensors(model.graph, outputs)
    for node in [node for node in model.graph.node if node.output[0] not in needed]:
        model.graph.node.remove(node)
    for name in outputs:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return model
