"""Photos changed: random views and colours, and composites that were never taken.

A view is drawn once and applied to the photo and to all its maps, so that they stay aligned.
Composites are mosaics of single things, people side by side, and things pasted on photos: in them
the text alone decides where to look, each thing being as large and as central as the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
from salgan_edge.train.data.named import Named

from salgan_edge.images import read_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt
    from salgan_edge.train.config import TrainConfig

    from salgan_edge.gaze.phrases import Box

    Floats = npt.NDArray[np.float32]
    Pixels = npt.NDArray[np.uint8]

__all__ = ["Composites", "Scene", "View", "draw_view", "recoloured"]

_PADDING = (114, 114, 114)
"""What lies outside the photo, the grey that detectors are trained to ignore."""
_GREY_SHARE = 0.05


@dataclass(frozen=True)
class View:
    """An affine map from the view to the photo, both as unit squares about their middle.

    A point u of the view, x and y in -0.5..0.5, shows ``turn @ u + shift`` of the photo.
    """

    turn: npt.NDArray[np.float64]
    """(2, 2)."""
    shift: npt.NDArray[np.float64]
    """(2,), x and y."""

    def pixels(self, photo: Pixels, side: int) -> Pixels:
        """The photo (S, S, 3) seen through the view, (side, side, 3)."""
        return cast("Pixels", self._warped(photo, side, _PADDING))

    def maps(self, maps: Floats, side: int) -> Floats:
        """Maps (n, G, G) seen through the view, averaged into (n, side, side)."""
        # Warped at twice the size and averaged, so that a map that shrinks loses no gaze.
        finer = [self._warped(plane, 2 * side, (0,)) for plane in maps]
        small = [cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA) for plane in finer]
        return np.stack(small).astype(np.float32)

    def _warped(self, plane: npt.NDArray[Any], side: int, border: tuple[int, ...]) -> npt.NDArray[Any]:
        source = plane.shape[0]
        # Pixel p of the view has its middle at u = (p + 0.5) / side - 0.5, and so has the photo.
        scale = self.turn * source / side
        offset = source * (self.shift + 0.5) - 0.5 + self.turn @ np.full(2, source * (0.5 / side - 0.5))
        return cv2.warpAffine(
            plane,
            np.concatenate((scale, offset[:, None]), axis=1),
            (side, side),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=border,
        )


def draw_view(
    config: TrainConfig, random: np.random.Generator, *, mirrored: bool, whole: bool = False
) -> View:
    """A view as the settings allow.

    Args:
        config: gives the ranges, see `TrainConfig`.
        random: where chance comes from.
        mirrored: left and right exchanged.
        whole: the whole photo, mirrored at most.
    """
    turn, shift = np.eye(2), np.zeros(2)
    if not whole and random.random() < config.augment:
        zoom = 1 - random.uniform(-config.zoom_out, config.crop)
        stretch = np.exp(random.uniform(-config.stretch, config.stretch) / 2)
        angle = np.deg2rad(random.uniform(-config.rotation, config.rotation))
        cosine, sine = np.cos(angle), np.sin(angle)
        turn = zoom * np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([stretch, 1 / stretch])
        # The view stays on the photo where it is smaller than the photo.
        reach = max(0.0, (1 - zoom) / 2)
        shift = random.uniform(-reach, reach, 2)
    if mirrored:
        turn = turn @ np.diag([-1.0, 1.0])
    return View(turn, shift)


def recoloured(pixels: Pixels, colour: float, random: np.random.Generator) -> Pixels:
    """Contrast and brightness changed by up to a fifth, now and then without colour.

    Args:
        pixels: RGB (h, w, 3).
        colour: largest relative change of each channel's gain; the saturation changes by twice that.
        random: where chance comes from.
    """
    values = pixels.astype(np.float32)
    if random.random() < _GREY_SHARE:
        values = np.repeat(values.mean(2, keepdims=True), 3, axis=2)
    if colour > 0:
        values = values * random.uniform(1 - colour, 1 + colour, 3).astype(np.float32)
        grey = values.mean(2, keepdims=True)
        values = grey + (values - grey) * random.uniform(1 - 2 * colour, 1 + 2 * colour)
    gain, offset = random.uniform(0.8, 1.2), random.uniform(-20, 20)
    return (values * gain + offset).clip(0, 255).astype(np.uint8)


_STORED = 160
"""Pixels of a single thing's photo in memory."""
_STORED_PERSON = 320
"""Pixels of the height of a person's photo in memory."""
_PEOPLE = (2, 3, 4)
_ROWS = (2, 2, 3)
_PASTE = (0.2, 0.42)
"""Sides of a pasted thing as a share of the photo's."""


@dataclass(frozen=True)
class Scene:
    """A composite: a photo and what is named in it."""

    pixels: Pixels
    """RGB (S, S, 3)."""
    named: list[Named]


class Composites:
    """Makes composites on the fly.

    Args:
        things: files and names of photos that show one thing.
        people: files of photos of one person, and what is named in them, the person first.
        size: side of a composite in pixels.
    """

    def __init__(
        self,
        things: Sequence[tuple[Path, Named]],
        people: Sequence[tuple[Path, list[Named]]],
        size: int,
    ) -> None:
        self._size = size
        self._things = [(_small(read_image(file), _STORED), named) for file, named in things]
        self._people = [(_upright(read_image(file)), named) for file, named in people]
        self.named = [named for _, named in things] + [named for _, row in people for named in row]

    def __bool__(self) -> bool:
        """Whether there is anything to compose."""
        return len(self._things) >= max(_ROWS) ** 2 or len(self._people) >= max(_PEOPLE)

    def scene(self, random: np.random.Generator) -> Scene:
        """A mosaic, or people side by side."""
        enough = len(self._people) >= max(_PEOPLE)
        if enough and (len(self._things) < max(_ROWS) ** 2 or random.random() < 0.4):
            return self._side_by_side(random)
        return self._mosaic(random)

    def paste(self, pixels: Pixels, named: Sequence[Named], random: np.random.Generator) -> Scene | None:
        """A photo (S, S, 3) with one or two things pasted on it; what they hide is named no longer."""
        if not self._things:
            return None
        pixels, kept = pixels.copy(), list(named)
        pasted: list[Named] = []
        size = pixels.shape[0]
        for _ in range(int(random.integers(1, 3))):
            picture, thing = self._things[int(random.integers(len(self._things)))]
            height, width = (round(float(random.uniform(*_PASTE)) * size) for _ in range(2))
            top, left = int(random.integers(size - height)), int(random.integers(size - width))
            pixels[top : top + height, left : left + width] = cv2.resize(
                picture, (width, height), interpolation=cv2.INTER_AREA
            )
            patch = (left / size, top / size, (left + width) / size, (top + height) / size)
            kept = [row for row in kept if all(_overlap(box, patch) < 0.3 for box in row.boxes)]
            pasted = [row for row in pasted if all(_overlap(box, patch) < 0.3 for box in row.boxes)]
            pasted.append(Named(thing.texts, tuple(_placed(box, patch) for box in thing.boxes)))
        return Scene(pixels, _merged([*pasted, *kept]))

    def _mosaic(self, random: np.random.Generator) -> Scene:
        rows = int(random.choice(_ROWS))
        size, named = self._size, []
        pixels = np.zeros((size, size, 3), np.uint8)
        edges = np.linspace(0, size, rows + 1).round().astype(int)
        chosen = random.choice(len(self._things), rows * rows, replace=False)
        for cell, number in enumerate(chosen):
            picture, thing = self._things[int(number)]
            (top, bottom), (left, right) = (edges[n : n + 2] for n in divmod(cell, rows))
            patch = cv2.resize(picture, (int(right - left), int(bottom - top)), interpolation=cv2.INTER_AREA)
            pixels[top:bottom, left:right] = patch
            place = (left / size, top / size, right / size, bottom / size)
            named.append(Named(thing.texts, tuple(_placed(box, place) for box in thing.boxes)))
        return Scene(pixels, _merged(named))

    def _side_by_side(self, random: np.random.Generator) -> Scene:
        """People in columns; a text counts for all who wear what it names."""
        count = int(random.choice(_PEOPLE))
        size, named = self._size, []
        pixels = np.full((size, size, 3), 235, np.uint8)
        edges = np.linspace(0, size, count + 1).round().astype(int)
        for column, number in enumerate(random.choice(len(self._people), count, replace=False)):
            picture, rows = self._people[int(number)]
            left, right = int(edges[column]), int(edges[column + 1])
            # The part of the photo that holds the person, with some of the surroundings.
            x0, y0, x1, y1 = rows[0].boxes[0]
            margin = float(random.uniform(0.02, 0.12))
            crop = (
                max(0.0, x0 - margin),
                max(0.0, y0 - margin),
                min(1.0, x1 + margin),
                min(1.0, y1 + margin),
            )
            height, width = picture.shape[:2]
            part = picture[
                int(crop[1] * height) : max(int(crop[3] * height), 1),
                int(crop[0] * width) : max(int(crop[2] * width), 1),
            ]
            pixels[:, left:right] = cv2.resize(part, (right - left, size), interpolation=cv2.INTER_AREA)
            place = (left / size, 0.0, right / size, 1.0)
            for row in rows:
                boxes = [_cut(box, crop) for box in row.boxes]
                placed = tuple(_placed(box, place) for box in boxes if box is not None)
                if placed:
                    named.append(Named(row.texts, placed))
        merged = _merged(named)
        # What everybody wears tells nobody apart.
        telling = [
            row for row in merged if len({int((box[0] + box[2]) / 2 * count) for box in row.boxes}) < count
        ]
        return Scene(pixels, telling or merged)


def _merged(named: Sequence[Named]) -> list[Named]:
    """Each text with the boxes of all rows that have it; texts with the same boxes share a row."""
    by_text: dict[str, tuple[Box, ...]] = {}
    for row in named:
        for text in dict.fromkeys(row.texts):
            by_text[text] = (*by_text.get(text, ()), *row.boxes)
    joined: dict[tuple[Box, ...], list[str]] = {}
    for text, boxes in by_text.items():
        joined.setdefault(boxes, []).append(text)
    return [Named(tuple(texts), boxes) for boxes, texts in joined.items()]


def _placed(box: Box, place: Box) -> Box:
    """A box of a picture that is shown in `place`."""
    width, height = place[2] - place[0], place[3] - place[1]
    return (
        float(place[0] + box[0] * width), float(place[1] + box[1] * height),
        float(place[0] + box[2] * width), float(place[1] + box[3] * height),
    )  # fmt: skip


def _cut(box: Box, crop: Box) -> Box | None:
    """A box in shares of the crop; None where nothing of it is left."""
    width, height = crop[2] - crop[0], crop[3] - crop[1]
    x0, x1 = (min(1.0, max(0.0, (x - crop[0]) / width)) for x in (box[0], box[2]))
    y0, y1 = (min(1.0, max(0.0, (y - crop[1]) / height)) for y in (box[1], box[3]))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _overlap(box: Box, patch: Box) -> float:
    """Share of the box that the patch hides."""
    width = min(box[2], patch[2]) - max(box[0], patch[0])
    height = min(box[3], patch[3]) - max(box[1], patch[1])
    area = (box[2] - box[0]) * (box[3] - box[1])
    return max(0.0, width) * max(0.0, height) / area if area > 0 else 0.0


def _small(picture: Pixels, side: int) -> Pixels:
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def _upright(picture: Pixels) -> Pixels:
    width = round(picture.shape[1] * _STORED_PERSON / picture.shape[0])
    return np.asarray(cv2.resize(picture, (width, _STORED_PERSON), interpolation=cv2.INTER_AREA), np.uint8)
