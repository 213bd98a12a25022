"""The human side of an evaluation: fixations of other photos, and the mean map."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from salgan_edge.train.evaluation.models import resized

from salgan_edge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from salgan_edge.train.data.gaze import GazeFolder, GazePair

    FloatMap = npt.NDArray[np.float32]
    Counts = npt.NDArray[np.int32]

__all__ = ["OtherFixations", "mean_map", "pairs_of"]


def pairs_of(folder: GazeFolder, split: str) -> list[GazePair]:
    """The pairs of a split, or of ``all``, sorted by key.

    Raises:
        DataError: there are none.
    """
    if split == "all":
        return sorted(folder.pairs, key=lambda pair: pair.key)
    pairs = folder.select(split)
    if not pairs:
        held = ", ".join(sorted({pair.split for pair in folder.pairs})) or "nothing"
        raise DataError(
            f"{folder.folder} has no photos in split {split!r}, only in {held}: choose one of them, or --split all"
        )
    return pairs


def mean_map(folder: GazeFolder, pairs: Sequence[GazePair], side: int = 128) -> tuple[FloatMap, str]:
    """Mean human map (side, side), and from which photos: ``train`` or ``evaluated``.

    It is the mean over all conditions of the training split; where the data set has none (its
    splits may be given), over the evaluated pairs, which then know a little of themselves.
    """
    train = folder.select("train")
    maps = [resized(folder.saliency_map(pair), (side, side)) for pair in train or pairs]
    return cast("FloatMap", np.mean(maps, axis=0, dtype=np.float32)), "train" if train else "evaluated"


class OtherFixations:
    """Negatives of the shuffled AUC: what was fixated in all other photos under the same condition.

    Counts of a whole condition are kept by grid, so a pair costs one subtraction.
    """

    def __init__(self, folder: GazeFolder, pairs: Sequence[GazePair]) -> None:
        self._folder = folder
        self._points: dict[str, list[npt.NDArray[np.float64]]] = {}
        for pair in pairs:
            self._points.setdefault(pair.condition, []).append(folder.fixations(pair))
        self._totals: dict[tuple[str, tuple[int, int]], Counts] = {}

    def of(self, pair: GazePair, shape: tuple[int, int]) -> Counts:
        """Fixations (h, w) of the other photos on this pair's grid, photos stretched onto each other."""
        key = (pair.condition, shape)
        if key not in self._totals:
            points = np.concatenate(self._points[pair.condition])
            cells = np.minimum((points * (shape[1], shape[0])).astype(int), (shape[1] - 1, shape[0] - 1))
            flat = np.bincount(cells[:, 1] * shape[1] + cells[:, 0], minlength=shape[0] * shape[1])
            self._totals[key] = flat.reshape(shape).astype(np.int32)
        others: Counts = self._totals[key] - self._folder.fixation_map(pair, shape)
        return others
