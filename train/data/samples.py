"""The generator's training set: photos, each with several prompts, vectors and target maps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from salgan_edge.train.data.coco import COCO_CLASSES, class_prompt
from salgan_edge.train.data.gaze import photos
from salgan_edge.train.data.objects import object_map, prompts_for
from salgan_edge.train.losses import density
from salgan_edge.train.networks.edge import DOMAINS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    from salgan_edge.train.config import TrainConfig
    from salgan_edge.train.data.gaze import GazeFolder
    from salgan_edge.train.data.objects import Detection
    from salgan_edge.train.data.text_vectors import TextVectors

    Floats = npt.NDArray[np.float32]

__all__ = ["Batch", "Photo", "TrainingSet"]

_OBJECT_AREA = (0.004, 0.6)
_ABSENT_SHARE = 0.15
_PAIR_SHARE = 0.15
_TRUE_VECTOR_SHARE = 0.4
_TEACHER_SHARE = 0.25


@dataclass
class Photo:
    """One photo with all that it can be asked."""

    domain: int
    pixels: npt.NDArray[np.uint8]
    """RGB (size, size, 3)."""
    gaze: list[tuple[str, Floats]]
    """Texts and human maps (grid, grid); the empty text is free viewing and comes first."""
    objects: dict[str, list[Detection]] = field(default_factory=dict)
    """Objects by class, of a fitting size."""
    seen: set[str] | None = None
    """Classes detected at any size; None where no detector looked."""


@dataclass(frozen=True)
class Batch:
    """One training step: B photos, N prompts each."""

    pixels: torch.Tensor
    """uint8 (B, size, size, 3)."""
    text: torch.Tensor
    """(B, N, dimension)."""
    target: torch.Tensor
    """Densities (B, N, grid, grid)."""
    weight: torch.Tensor
    """Loss weights (B, N)."""
    domain: torch.Tensor
    """Indices into `DOMAINS` (B,)."""


class TrainingSet:
    """Draws batches: human pairs first, the free places filled with object prompts.

    Args:
        folders: gaze folders; their names are those of `DOMAINS`.
        detections: objects by ``folder/photo``; a photo that is missing was not looked at.
        resize: photo (H, W, 3) to the network's input (size, size, 3), as the graph does it.
        encode: texts to vectors (n, dimension) with the text encoder that will be shipped.
        true: true CLIP vectors, used in place of the encoder's for a share of the class prompts.
        teacher: vectors that the encoder was distilled from, used for a share of the captions.
        config: see `TrainConfig`.
        grid: side of the target maps in cells.
    """

    def __init__(
        self,
        folders: Sequence[GazeFolder],
        detections: Mapping[str, list[Detection]],
        resize: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]],
        encode: Callable[[Sequence[str]], Floats],
        true: TextVectors,
        teacher: TextVectors,
        config: TrainConfig,
        grid: int,
    ) -> None:
        self._config = config
        self._grid = grid
        self.photos: list[Photo] = []
        for folder in folders:
            for name, pairs in photos(folder.select("train")).items():
                ordered = sorted(pairs, key=lambda pair: pair.text != "")
                photo = Photo(
                    domain=DOMAINS.index(folder.name),
                    pixels=resize(folder.image(name)),
                    gaze=[(pair.text, to_grid(folder.saliency_map(pair), grid)) for pair in ordered],
                )
                detected = detections.get(f"{folder.name}/{name}")
                photo.seen = None if detected is None else {found.name for found in detected}
                for found in detected or []:
                    if _OBJECT_AREA[0] <= found.area <= _OBJECT_AREA[1]:
                        photo.objects.setdefault(found.name, []).append(found)
                self.photos.append(photo)
        texts = {text for photo in self.photos for text, _ in photo.gaze if text}
        texts |= {_mirrored(text) for text in texts}
        texts |= {text for name in COCO_CLASSES for count in (1, 2, 3) for text in prompts_for(name, count)}
        for photo in self.photos:
            names = sorted(photo.objects)
            texts |= {_both(a, b) for a in names for b in names if a != b}
        ordered_texts = sorted(texts)
        self._vectors: dict[str, Floats] = dict(zip(ordered_texts, encode(ordered_texts), strict=True))
        self._true: dict[str, Floats] = dict(zip(true.texts, true.vectors, strict=True))
        self._teacher: dict[str, Floats] = dict(zip(teacher.texts, teacher.vectors, strict=True))
        self._dimension = true.vectors.shape[1]

    def batches(self, random: np.random.Generator) -> list[list[int]]:
        """One epoch: indices of the photos of each step."""
        order = random.permutation(len(self.photos))
        return [list(part) for part in np.array_split(order, max(1, len(order) // self._config.batch_size))]

    def batch(self, chosen: Sequence[int], random: np.random.Generator) -> Batch:
        """Draw prompts, flips, lightness and noise for the chosen photos."""
        rows = [self._draw(self.photos[index], random) for index in chosen]
        return Batch(
            pixels=torch.from_numpy(np.stack([row[0] for row in rows])),
            text=torch.from_numpy(np.stack([row[1] for row in rows])),
            target=density(torch.from_numpy(np.stack([row[2] for row in rows]))),
            weight=torch.from_numpy(np.stack([row[3] for row in rows])),
            domain=torch.tensor([self.photos[index].domain for index in chosen]),
        )

    def _draw(
        self, photo: Photo, random: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], Floats, Floats, Floats]:
        config = self._config
        flip = bool(random.random() < 0.5)
        drawn: list[tuple[Floats, Floats, float]] = []
        gaze = (
            photo.gaze
            if len(photo.gaze) <= config.prompts
            else [photo.gaze[0], *_some(photo.gaze[1:], random)]
        )
        human = 1.0 if photo.domain == 0 else config.free_view_weight
        for text, target in gaze[: config.prompts]:
            drawn.append((self._caption_vector(_mirrored(text) if flip else text, random), target, human))
        while len(drawn) < config.prompts:
            # Without a detector nothing is known of objects; the free place then counts nothing.
            drawn.append(
                (*drawn[0][:2], 0.0) if photo.seen is None else self._object(photo, photo.seen, random)
            )
        vectors = np.stack([vector for vector, _, _ in drawn])
        noise = random.normal(0, config.text_noise, vectors.shape).astype(np.float32)
        vectors = np.where(np.any(vectors != 0, axis=1, keepdims=True), vectors + noise, vectors)
        targets = np.stack([target for _, target, _ in drawn])
        pixels = _lightness(photo.pixels, random)
        if config.crop > 0 and random.random() < 0.5:
            pixels, targets = _cropped(pixels, targets, 1 - random.uniform(0, config.crop), random)
        if flip:
            pixels, targets = pixels[:, ::-1], targets[:, :, ::-1]
        weights = np.array([weight for _, _, weight in drawn], np.float32)
        return np.ascontiguousarray(pixels), vectors, np.ascontiguousarray(targets), weights

    def _caption_vector(self, text: str, random: np.random.Generator) -> Floats:
        if not text:
            return np.zeros(self._dimension, np.float32)
        if text in self._teacher and random.random() < _TEACHER_SHARE:
            return self._teacher[text]
        return self._vectors[text]

    def _object(
        self, photo: Photo, seen: set[str], random: np.random.Generator
    ) -> tuple[Floats, Floats, float]:
        """An object prompt: something there, two things there, or something absent."""
        free = photo.gaze[0][1]
        names = sorted(photo.objects)
        weight = self._config.object_weight
        if not names or random.random() < _ABSENT_SHARE:
            absent = [name for name in COCO_CLASSES if name not in seen]
            return self._object_vector(str(random.choice(absent)), 1, random), free, weight / 2
        if len(names) > 1 and random.random() < _PAIR_SHARE:
            first, second = (str(name) for name in random.choice(names, 2, replace=False))
            boxes = photo.objects[first] + photo.objects[second]
            return self._vectors[_both(first, second)], object_map(boxes, free), weight
        name = str(random.choice(names))
        boxes = photo.objects[name]
        return self._object_vector(name, len(boxes), random), object_map(boxes, free), weight

    def _object_vector(self, name: str, count: int, random: np.random.Generator) -> Floats:
        if random.random() < _TRUE_VECTOR_SHARE:
            return self._true[class_prompt(name)]
        return self._vectors[str(random.choice(prompts_for(name, count)))]


def to_grid(values: Floats, grid: int) -> Floats:
    """A map (h, w) averaged into (grid, grid) cells, largest value 1."""
    planes = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    small = torch.nn.functional.interpolate(planes, (grid, grid), mode="bilinear", antialias=True)[0, 0]
    return (small / small.max()).numpy()


def _some(gaze: list[tuple[str, Floats]], random: np.random.Generator) -> list[tuple[str, Floats]]:
    return [gaze[n] for n in random.permutation(len(gaze))]


def _both(first: str, second: str) -> str:
    return f"{class_prompt(first)} and {class_prompt(second)}"


def _mirrored(text: str) -> str:
    """The text with left and right exchanged, as a mirrored photo wants it."""
    swap = {"left": "right", "right": "left"}
    return " ".join(swap.get(word, word) for word in text.split(" "))


def _cropped(
    pixels: npt.NDArray[np.uint8], targets: Floats, share: float, random: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], Floats]:
    """A random crop of `share` of the sides, enlarged again, of the photo and its maps (n, grid, grid)."""
    left, top = random.uniform(0, 1 - share, 2)

    def cut(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
        side = plane.shape[0]
        # Maps a pixel centre of the result to the crop.
        matrix = np.array(
            [[share, 0, left * side + (share - 1) / 2], [0, share, top * side + (share - 1) / 2]]
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(plane, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)

    maps = np.stack([cut(target) for target in targets])
    # A crop without any gaze says nothing: keep the whole photo.
    if float(maps.sum(axis=(1, 2)).min()) < 1:
        return pixels, targets
    return cut(pixels), maps


def _lightness(pixels: npt.NDArray[np.uint8], random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Contrast and brightness changed by up to a fifth; now and then without colour."""
    values = pixels.astype(np.float32)
    if random.random() < 0.05:
        values = np.repeat(values.mean(2, keepdims=True), 3, axis=2)
    gain, offset = random.uniform(0.8, 1.2), random.uniform(-20, 20)
    changed: npt.NDArray[np.uint8] = (values * gain + offset).clip(0, 255).astype(np.uint8)
    return changed
