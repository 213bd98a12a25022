"""Sheets of examples: photos beside where people looked or what texts name, and the maps of each bundle.

The sheet of gaze has the form of the paper's figures 2, 3, 4 and 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from salgan_edge.evaluate.measure import pairs_of, some_of
from salgan_edge.evaluate.models import resized
from salgan_edge.evaluate.pointing import inside, peak
from salgan_edge.evaluate.scores import in_order
from salgan_edge.gaze.folder import photos
from salgan_edge.metrics import cc
from salgan_edge.render import captioned, overlay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from salgan_edge.evaluate.models import Model
    from salgan_edge.evaluate.scores import Case
    from salgan_edge.gaze.folder import GazeFolder, GazePair
    from salgan_edge.gaze.phrases import Box, PhraseSet

    Pixels = npt.NDArray[np.uint8]
    FloatMap = npt.NDArray[np.float32]

__all__ = ["example_photos", "example_sheet", "prompt_sheet", "sheet_cases"]

_WIDTH = 320
"""Of a panel of gaze, in pixels."""
_BOX_WIDTH, _BOX_HEIGHT = 400, 300
"""At most, of a panel of texts."""
_GAP = 8
_EDGE, _UNDER = (255, 255, 255), (0, 0, 0)


# Gaze


def example_photos(folder: GazeFolder, split: str, count: int) -> list[list[GazePair]]:
    """Photos to show, spread over the split: one of each kind, the rest of the kind with most texts.

    A kind is a set of viewing conditions: SJTU-TIS has photos with one text and with three.

    Raises:
        DataError: the split is empty.
    """
    kinds: dict[frozenset[str], list[list[GazePair]]] = {}
    for group in photos(pairs_of(folder, split)).values():
        kinds.setdefault(frozenset(pair.condition for pair in group), []).append(group)
    ordered = sorted(kinds.values(), key=lambda groups: (-len(groups[0]), groups[0][0].key))[:count]
    share = [count - len(ordered) + 1] + [1] * (len(ordered) - 1)
    return [group for groups, n in zip(ordered, share, strict=True) for group in some_of(groups, n)]


def example_sheet(models: Sequence[Model], folder: GazeFolder, groups: Sequence[list[GazePair]]) -> Pixels:
    """Example photos as one picture, RGB uint8.

    Each row has the photo, the human map and the map of each model, under the text that people and
    models were told; the CC of a prediction with the human map stands with the text.
    """
    order = in_order(pair.condition for group in groups for pair in group)
    names = ["photo", "people", *(model.name for model in models)]
    sheet = [_row([captioned(_blank(0, _WIDTH), name) for name in names])]
    for texts in groups:
        group = sorted(texts, key=lambda pair: order.index(pair.condition))
        photo = folder.image(group[0].image)
        small = _fitted(photo, _WIDTH / photo.shape[1])
        predictions = [model.maps(photo, [pair.text or None for pair in group]) for model in models]
        for n, pair in enumerate(group):
            human = folder.saliency_map(pair)
            maps = [model[n] for model in predictions]
            scores = ", ".join(f"{cc(resized(values, human.shape), human):.2f}" for values in maps)
            told = f'"{pair.text}"' if pair.text else "told nothing"
            row = _row([small, *(_overlaid(small, values) for values in (human, *maps))])
            sheet += [captioned(row, f"{pair.condition}, CC {scores}: {told}"), _blank(_GAP, row.shape[1])]
    return np.concatenate(sheet)


# Texts with boxes


def sheet_cases(cases: Sequence[Case], count: int) -> list[Case]:
    """Cases to show, of `count` photos or fewer: hits and misses in turn, each spread over all, one a photo.

    Hits are those that free viewing misses; where there are too few, any.
    """
    by_photo: dict[str, list[Case]] = {}
    for case in cases:
        by_photo.setdefault(case.photo, []).append(case)
    hits = _one_each(by_photo, lambda case: case.told > case.untold)
    if len(hits) < count - count // 2:
        hits |= _one_each({p: c for p, c in by_photo.items() if p not in hits}, lambda case: case.told > 0)
    shown = some_of(list(hits.values()), count - count // 2)
    taken = {case.photo for case in shown}
    misses = _one_each({p: c for p, c in by_photo.items() if p not in taken}, lambda case: case.told == 0)
    missed = some_of(list(misses.values()), count - len(shown))
    turns = [case for pair in zip(shown, missed, strict=False) for case in pair]
    return turns + shown[len(missed) :] + missed[len(shown) :]


def _one_each(by_photo: Mapping[str, Sequence[Case]], wanted: Callable[[Case], bool]) -> dict[str, Case]:
    """Of each photo with a wanted case one of them, another in turn, so that all kinds occur."""
    found = {
        photo: fitting for photo, some in by_photo.items() if (fitting := [c for c in some if wanted(c)])
    }
    return {photo: fitting[n % len(fitting)] for n, (photo, fitting) in enumerate(found.items())}


def prompt_sheet(models: Sequence[Model], phrases: PhraseSet, cases: Sequence[Case]) -> Pixels:
    """Cases as one picture, RGB uint8: the photo with its boxes, then each model's map without and with the text.

    A cross marks the peak. The line above says which models hit.

    Args:
        models: at least one.
        phrases: where the photos come from.
        cases: of `sheet_cases`, at least one.
    """
    names = [name for model in models for name in _headings(model.name, alone=len(models) == 1)]
    parts = [_row([captioned(_blank(0, _BOX_WIDTH), name) for name in ["photo", *names]])]
    for case in cases:
        photo = phrases.image(case.photo)
        small = _fitted(photo, min(_BOX_WIDTH / photo.shape[1], _BOX_HEIGHT / photo.shape[0]))
        panels, told = [_boxed(small, case.boxes)], []
        for model in models:
            maps = model.maps(photo, [None, case.text])
            panels += [_boxed(_marked(small, values), case.boxes, thin=True) for values in maps]
            free, hit = ("hit" if inside(peak(values), case.boxes) else "miss" for values in maps)
            told.append(f"{hit} (without the text {free})")
        row = _row([_padded(panel) for panel in panels])
        caption = f'"{case.text}": {", ".join(told)}; {case.kind}, {case.photo}'
        parts += [captioned(row, caption), _blank(_GAP, row.shape[1])]
    return np.concatenate(parts)


def _headings(name: str, *, alone: bool) -> tuple[str, str]:
    return ("told nothing", "told the text") if alone else (f"{name}, told nothing", f"{name}, told the text")


# Panels


def _fitted(photo: Pixels, scale: float) -> Pixels:
    """The photo scaled to its panel."""
    height, width = photo.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cast("Pixels", cv2.resize(photo, size, interpolation=how))


def _overlaid(small: Pixels, values: FloatMap) -> Pixels:
    """A photo under a map of any size, whose largest value counts as 1."""
    grid = resized(values, small.shape[:2])
    grid = grid / max(float(grid.max()), 1e-12)
    return overlay(small, np.clip(grid, 0, 1).astype(np.float32))


def _marked(small: Pixels, values: FloatMap) -> Pixels:
    """The overlay of a map, with a cross at its peak."""
    height, width = small.shape[:2]
    picture = _overlaid(small, values)
    x, y = peak(values)
    at = (int(x * width), int(y * height))
    cv2.drawMarker(picture, at, _UNDER, cv2.MARKER_CROSS, 17, 5)
    cv2.drawMarker(picture, at, _EDGE, cv2.MARKER_CROSS, 15, 2)
    return picture


def _boxed(picture: Pixels, boxes: Sequence[Box], *, thin: bool = False) -> Pixels:
    """A copy with the boxes drawn, white on black so that they show on any photo."""
    drawn = picture.copy()
    height, width = picture.shape[:2]
    for colour, thickness in ((_UNDER, 3), (_EDGE, 1)) if thin else ((_UNDER, 5), (_EDGE, 2)):
        for x0, y0, x1, y1 in boxes:
            first = (round(x0 * (width - 1)), round(y0 * (height - 1)))
            last = (round(x1 * (width - 1)), round(y1 * (height - 1)))
            cv2.rectangle(drawn, first, last, colour, thickness)
    return drawn


def _padded(panel: Pixels) -> Pixels:
    """A panel in the middle of the column's width."""
    canvas = _blank(panel.shape[0], _BOX_WIDTH)
    left = (_BOX_WIDTH - panel.shape[1]) // 2
    canvas[:, left : left + panel.shape[1]] = panel
    return canvas


def _blank(height: int, width: int) -> Pixels:
    return np.full((height, width, 3), 255, np.uint8)


def _row(panels: Sequence[Pixels]) -> Pixels:
    """Panels of one height beside each other."""
    gap = _blank(panels[0].shape[0], _GAP)
    parts = [part for panel in panels for part in (panel, gap)]
    return np.concatenate(parts[:-1], axis=1)
