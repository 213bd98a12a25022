"""A sheet of examples, the form of the paper's figures 2, 3, 4 and 6.

A row for each text: the photo, where people looked, and where each bundle says they look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from salgan_edge.evaluate.measure import pairs_of, some_of
from salgan_edge.evaluate.models import resized
from salgan_edge.evaluate.scores import in_order
from salgan_edge.gaze.folder import photos
from salgan_edge.metrics import cc
from salgan_edge.render import captioned, overlay

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from salgan_edge.evaluate.models import Model
    from salgan_edge.gaze.folder import GazeFolder, GazePair

    Pixels = npt.NDArray[np.uint8]
    FloatMap = npt.NDArray[np.float32]

__all__ = ["example_photos", "example_sheet"]

_WIDTH = 320
_MARGIN = 8


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
    sheet: list[Pixels] = [_headings(["photo", "people", *(model.name for model in models)])]
    for texts in groups:
        group = sorted(texts, key=lambda pair: order.index(pair.condition))
        photo = folder.image(group[0].image)
        height = max(1, round(photo.shape[0] * _WIDTH / photo.shape[1]))
        small = _picture(photo, height)
        predictions = [model.maps(photo, [pair.text or None for pair in group]) for model in models]
        for n, pair in enumerate(group):
            human = folder.saliency_map(pair)
            maps = [model[n] for model in predictions]
            scores = ", ".join(f"{cc(resized(values, human.shape), human):.2f}" for values in maps)
            told = f'"{pair.text}"' if pair.text else "told nothing"
            row = _row([small, *(overlay(small, _scaled(values, small.shape)) for values in (human, *maps))])
            sheet += [captioned(row, f"{pair.condition}, CC {scores}: {told}"), _gap(row.shape[1])]
    return np.concatenate(sheet)


def _picture(photo: Pixels, height: int) -> Pixels:
    small: Pixels = cv2.resize(photo, (_WIDTH, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return small


def _scaled(values: FloatMap, shape: tuple[int, ...]) -> FloatMap:
    """A map on the grid of the picture, largest value 1."""
    grid = resized(values, shape[:2])
    grid = grid / max(float(grid.max()), 1e-12)
    return np.clip(grid, 0, 1).astype(np.float32)


def _row(panels: Sequence[Pixels]) -> Pixels:
    gap = np.full((panels[0].shape[0], _MARGIN, 3), 255, np.uint8)
    parts: list[Pixels] = []
    for panel in panels:
        parts += [panel, gap]
    return np.concatenate(parts[:-1], axis=1)


def _headings(names: Sequence[str]) -> Pixels:
    empty = np.full((0, _WIDTH, 3), 255, np.uint8)
    cells = [captioned(empty, name) for name in names]
    return _row(cells)


def _gap(width: int) -> Pixels:
    return np.full((_MARGIN, width, 3), 255, np.uint8)
