"""Random views of a photo and its maps: turned, cropped, stretched, mirrored, recoloured.

A view is drawn once and applied to the photo and to all its maps, so that they stay aligned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from salgan_edge.train.config import TrainConfig

    Floats = npt.NDArray[np.float32]
    Pixels = npt.NDArray[np.uint8]

__all__ = ["View", "draw_view", "recoloured"]

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
