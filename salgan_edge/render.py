"""Pictures for people: heat map, overlay, a sheet of prompts side by side."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from salgan_edge.errors import InputError
from salgan_edge.resample import refine

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
    FloatMap = npt.NDArray[np.float32]

__all__ = ["captioned", "captioned_overlay", "heat_map", "overlay", "overlay_grid", "sheet", "text_lines"]

_OPACITY = 0.75
_SHEET_HEIGHT = 360
_CAPTION_HEIGHT = 36
_MARGIN = 8
_STRIP_PIXELS = 2**17
"""Worked on at once, so that what lies between two steps stays in the processor's cache."""


def heat_map(saliency: FloatMap) -> Pixels:
    """Colours of a saliency map (H, W) in 0..1, RGB uint8 (H, W, 3); Turbo, blue to red.

    >>> import numpy as np
    >>> from salgan_edge import heat_map
    >>> heat_map(np.array([[0.0, 0.5, 1.0]], np.float32)).shape
    (1, 3, 3)
    """
    levels = np.rint(saliency * 255).astype(np.uint8)
    return cast("Pixels", cv2.applyColorMap(levels, _turbo()))


def overlay(image: Pixels, saliency: FloatMap, opacity: float = _OPACITY) -> Pixels:
    """Photo RGB (H, W, 3) under the colours of its saliency map (H, W) in 0..1.

    Colours are the more opaque the more salient a place is, so the photo stays visible elsewhere;
    `opacity`, 0..1, is that of the most salient place.

    >>> import numpy as np
    >>> from salgan_edge import overlay
    >>> photo = np.full((2, 2, 3), 100, np.uint8)
    >>> bool((overlay(photo, np.zeros((2, 2), np.float32)) == photo).all())
    True
    """
    shown = np.empty(image.shape, np.uint8)
    values = np.asarray(saliency, np.float32)
    rows = max(1, _STRIP_PIXELS // image.shape[1])
    for top in range(0, image.shape[0], rows):
        strip = slice(top, top + rows)
        colours, remaining = _layer(values[strip], opacity)
        _blend(image[strip], colours, remaining, shown[strip])
    return shown


def overlay_grid(
    image: Pixels, grid: FloatMap, opacity: float = _OPACITY, out: Pixels | None = None
) -> Pixels:
    """The overlay of a photo and the generator's grid, for streams.

    It looks like the overlay of the grid's enlargement to the photo's size, mostly within 4 of 255
    levels, and takes a fraction of the time: colours and opacities are worked out at a few times
    the grid's resolution and enlarged as 8-bit pictures.

    Args:
        image: the photo, RGB (H, W, 3).
        grid: saliency (h, w), 0..1.
        opacity: of the most salient place, 0..1.
        out: where the overlay is put, uint8 (H, W, 3), contiguous, not the photo itself; a new array
            where None.

    Returns:
        RGB uint8 (H, W, 3); `out` if one was given.

    Raises:
        InputError: `out` does not fit, or shares memory with the photo.
    """
    if out is None:
        out = np.empty(image.shape, np.uint8)
    elif out.shape != image.shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise InputError(
            f"out is {out.dtype} {out.shape}: a contiguous uint8 array {image.shape} was expected"
        )
    elif np.may_share_memory(image, out):
        raise InputError("out shares its memory with the photo: give another array")
    height, width = image.shape[:2]
    finer, highest = refine(grid, width, height)
    colours, remaining = _layer(finer, opacity, highest)
    if finer.shape != (height, width):
        colours = cast("Pixels", cv2.resize(colours, (width, height), dst=out))
        remaining = cast("Pixels", cv2.resize(remaining, (width, height)))
    _blend(image, colours, remaining, out)
    return out


def _layer(saliency: FloatMap, opacity: float, highest: float = 1.0) -> tuple[Pixels, Pixels]:
    """What is added to a photo, and what share of the photo remains.

    Args:
        saliency: (H, W), 0..`highest`.
        opacity: where it is highest.
        highest: what counts as 1.

    Returns:
        Colours times opacity, uint8 (H, W, 3), and 255 times the photo's share, uint8 (H, W).
    """
    levels = cv2.convertScaleAbs(saliency, alpha=255 / highest)
    colours = cast("Pixels", cv2.applyColorMap(levels, _turbo()))
    # The square root shows moderate saliency too. It is taken before rounding to 8 bits: the root
    # of a level would be a coarse step where saliency is low.
    weight = cv2.convertScaleAbs(cv2.sqrt(saliency), alpha=255 * opacity / highest**0.5)
    cv2.multiply(colours, cv2.cvtColor(weight, cv2.COLOR_GRAY2BGR), dst=colours, scale=1 / 255)
    return colours, cast("Pixels", cv2.bitwise_not(weight, dst=weight))


def _blend(image: Pixels, colours: Pixels, remaining: Pixels, out: Pixels) -> None:
    """Put into `out` the share of the photo that remains, and the colours added to it."""
    kept = cv2.cvtColor(remaining, cv2.COLOR_GRAY2BGR)
    cv2.multiply(image, kept, dst=kept, scale=1 / 255)
    cv2.add(kept, colours, dst=out)


@functools.cache
def _turbo() -> Pixels:
    """The 256 colours of Turbo, RGB uint8 (256, 1, 3): a table of its own saves swapping channels."""
    levels = np.arange(256, dtype=np.uint8)[:, None]
    return cast("Pixels", cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB))


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


def captioned_overlay(image: Pixels, grid: FloatMap, text: str) -> Pixels:
    """`captioned` of `overlay_grid`, drawn where it stays."""
    canvas = np.empty((_CAPTION_HEIGHT + image.shape[0], image.shape[1], 3), np.uint8)
    canvas[:_CAPTION_HEIGHT] = 255
    overlay_grid(image, grid, out=canvas[_CAPTION_HEIGHT:])
    _write(canvas, text)
    return canvas


def text_lines(lines: Sequence[str], width: int) -> Pixels:
    """Lines of text one below the other on white, RGB uint8 of `width` pixels; each cut with dots where too long."""
    strips = [np.full((_CAPTION_HEIGHT, width, 3), 255, np.uint8) for _ in lines]
    for strip, line in zip(strips, lines, strict=True):
        _write(strip, line)
    return np.concatenate(strips)


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
