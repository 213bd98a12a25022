"""Pictures for people: heat map, overlay, a sheet of prompts side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
    FloatMap = npt.NDArray[np.float32]

__all__ = ["captioned", "heat_map", "overlay", "sheet"]

_OPACITY = 0.75
_SHEET_HEIGHT = 360
_CAPTION_HEIGHT = 36
_MARGIN = 8


def heat_map(saliency: FloatMap) -> Pixels:
    """Colours of a saliency map (H, W) in 0..1, RGB uint8 (H, W, 3); Turbo, blue to red."""
    levels = np.rint(saliency * 255).astype(np.uint8)
    return _rgb(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO))


def overlay(image: Pixels, saliency: FloatMap, opacity: float = _OPACITY) -> Pixels:
    """Photo RGB (H, W, 3) under the colours of its saliency map (H, W) in 0..1.

    Colours are the more opaque the more salient a place is, so the photo stays visible elsewhere;
    `opacity`, 0..1, is that of the most salient place.
    """
    # The square root shows moderate saliency too.
    weight = (opacity * np.sqrt(saliency))[..., None].astype(np.float32)
    mixed = image + weight * (heat_map(saliency).astype(np.float32) - image)
    return cast("Pixels", np.rint(mixed).astype(np.uint8))


def sheet(image: Pixels, overlays: Sequence[Pixels], captions: Sequence[str]) -> Pixels:
    """The photo and its overlays side by side, each with its prompt above it.

    Args:
        image: the photo, RGB (H, W, 3).
        overlays: pictures of the photo's size.
        captions: prompt of each overlay.

    Returns:
        RGB uint8, 360 pixels high and the captions' height.
    """
    panels = [_panel(image, "photo")]
    panels += [_panel(picture, caption) for picture, caption in zip(overlays, captions, strict=True)]
    gap = np.full((panels[0].shape[0], _MARGIN, 3), 255, np.uint8)
    row: list[Pixels] = []
    for panel in panels:
        row += [gap, panel]
    return np.concatenate([*row[1:]], axis=1)


def captioned(picture: Pixels, text: str) -> Pixels:
    """A picture RGB (H, W, 3) under a line of text in a white strip, cut with dots where too long."""
    canvas = np.full((_CAPTION_HEIGHT + picture.shape[0], picture.shape[1], 3), 255, np.uint8)
    canvas[_CAPTION_HEIGHT:] = picture
    _write(canvas, text)
    return canvas


def _panel(picture: Pixels, caption: str) -> Pixels:
    width = max(1, round(picture.shape[1] * _SHEET_HEIGHT / picture.shape[0]))
    # A very narrow photo still gets a readable caption.
    canvas = np.full((_SHEET_HEIGHT + _CAPTION_HEIGHT, max(width, 160), 3), 255, np.uint8)
    smaller = picture.shape[0] > _SHEET_HEIGHT
    canvas[_CAPTION_HEIGHT:, :width] = cv2.resize(
        picture, (width, _SHEET_HEIGHT), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    )
    _write(canvas, caption)
    return canvas


def _write(canvas: Pixels, caption: str) -> None:
    """Draw the caption into the top of the canvas, cut with dots where it is too long."""
    room = canvas.shape[1] - 8
    shown = caption
    while len(shown) > 1 and _text_width(shown) > room:
        shown = shown.removesuffix("...")[:-1].rstrip() + "..."
    baseline = _CAPTION_HEIGHT - 12
    if hasattr(cv2, "FontFace"):
        # OpenCV 5 draws any script that its built-in font has.
        cv2.putText(canvas, shown, (4, baseline), (30, 30, 30), cv2.FontFace("sans"), 17)
    else:
        cv2.putText(canvas, shown, (4, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)


def _text_width(text: str) -> int:
    if hasattr(cv2, "FontFace"):
        x, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), cv2.FontFace("sans"), 17)
        return int(x + width)
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    return int(width)


def _rgb(bgr: object) -> Pixels:
    return cast("Pixels", cv2.cvtColor(cast("Pixels", bgr), cv2.COLOR_BGR2RGB))
