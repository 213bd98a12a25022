"""Reader of packed gaze folders: ``pairs.csv``, ``images/``, ``fixations.npz``, ``maps/``."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from salgan_edge.train.data.split import split_names

from salgan_edge.errors import DataError
from salgan_edge.images import read_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    FloatMap = npt.NDArray[np.float32]

__all__ = ["GazeFolder", "GazePair"]

_BLUR_WIDTH_SHARE = 24 / 800
"""Standard deviation of one degree of visual angle as a share of the width (OSIE's set-up)."""


@dataclass(frozen=True)
class GazePair:
    """One photo under one viewing condition."""

    image: str
    """Name of the photo, without suffix."""
    condition: str
    """``pure``, ``whole``, ``general``, ``salient`` or ``nonsalient``."""
    text: str
    """What the viewers were told; empty for free viewing."""
    width: int
    height: int
    """Pixels of the original photo, in which fixations are given."""
    split: str
    """``train``, ``validation`` or ``test``."""

    @property
    def key(self) -> str:
        """Key of the pair in ``fixations.npz`` and name of its map."""
        return f"{self.image}_{self.condition}"


class GazeFolder:
    """A packed data set, split by photo.

    Raises:
        DataError: the folder or a part of it is missing; the message names it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        for part in ("pairs.csv", "images", "fixations.npz"):
            if not (folder / part).exists():
                raise DataError(
                    f"{folder} has no {part}: a folder as described in the README's 'Training' was expected"
                )
        with (folder / "pairs.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        # Photos with a text for the whole scene only, and those with three texts, are split apart,
        # so that every condition has its share in each split.
        groups: dict[bool, set[str]] = {True: set(), False: set()}
        for row in rows:
            groups[row["condition"] == "whole"].add(row["image"])
        groups[False] -= groups[True]
        split = {**split_names(groups[True]), **split_names(groups[False])}
        self.pairs = [
            GazePair(
                image=row["image"],
                condition=row["condition"],
                text=row["text"].strip(),
                width=int(row["width"]),
                height=int(row["height"]),
                split=split[row["image"]],
            )
            for row in rows
        ]
        fixations: Any = np.load(folder / "fixations.npz")
        self._fixations: dict[str, npt.NDArray[np.uint16]] = {key: fixations[key] for key in fixations.files}

    def select(self, split: str) -> list[GazePair]:
        """The pairs of one split, all conditions of a photo together."""
        return sorted((pair for pair in self.pairs if pair.split == split), key=lambda pair: pair.key)

    def image(self, name: str) -> npt.NDArray[np.uint8]:
        """Photo as RGB uint8 (H, W, 3)."""
        return read_image(self.folder / "images" / f"{name}.jpg")

    def fixations(self, pair: GazePair) -> npt.NDArray[np.float64]:
        """Fixations (n, 2) as x and y in 0..1 of the photo's width and height.

        The middle of a pixel is meant, hence the half.
        """
        points = self._fixations[pair.key].astype(np.float64)
        scaled: npt.NDArray[np.float64] = (points + 0.5) / np.array([pair.width, pair.height])
        return scaled

    def fixation_map(self, pair: GazePair, shape: tuple[int, int]) -> npt.NDArray[np.int32]:
        """Number of fixations in each cell of a grid (h, w)."""
        counts = np.zeros(shape, np.int32)
        points = self.fixations(pair)
        columns = np.minimum((points[:, 0] * shape[1]).astype(int), shape[1] - 1)
        rows = np.minimum((points[:, 1] * shape[0]).astype(int), shape[0] - 1)
        np.add.at(counts, (rows, columns), 1)
        return counts

    def saliency_map(self, pair: GazePair) -> FloatMap:
        """Human saliency map, float32 (h, w), largest value 1.

        The published map where the data set has one, else the fixations blurred with a Gaussian
        of one degree of visual angle.
        """
        published = self.folder / "maps" / f"{pair.key}.png"
        if published.exists():
            read = cv2.imread(str(published), cv2.IMREAD_GRAYSCALE)
            if read is None:
                raise DataError(f"{published} is no readable image: unpack the data set again")
            values = read.astype(np.float32)
        else:
            scale = 320 / max(pair.width, pair.height)
            shape = (max(1, round(pair.height * scale)), max(1, round(pair.width * scale)))
            counts = self.fixation_map(pair, shape).astype(np.float32)
            values = cv2.GaussianBlur(counts, (0, 0), _BLUR_WIDTH_SHARE * shape[1]).astype(np.float32)
        peak = float(values.max())
        if peak <= 0:
            raise DataError(
                f"{self.name}/{pair.key} has an empty saliency map: remove the pair from pairs.csv"
            )
        return values / np.float32(peak)


def photos(pairs: Sequence[GazePair]) -> dict[str, list[GazePair]]:
    """Pairs by photo, in order of appearance."""
    grouped: dict[str, list[GazePair]] = {}
    for pair in pairs:
        grouped.setdefault(pair.image, []).append(pair)
    return grouped
