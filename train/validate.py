"""Validation while training: CC by condition and `guide`, on the network's own grid.

Figures to report come from `salgan-edge evaluate`, which runs the exported bundle at full size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from salgan_edge.train.data.gaze import photos
from salgan_edge.train.data.samples import to_grid

from salgan_edge.metrics import cc, guide

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from salgan_edge.train.data.gaze import GazeFolder
    from salgan_edge.train.networks.edge import EdgeGenerator

    Floats = npt.NDArray[np.float32]

__all__ = ["Validation"]


class Validation:
    """The validation split of one gaze folder, ready to be scored again and again."""

    def __init__(
        self,
        folder: GazeFolder,
        resize: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]],
        encode: Callable[[Sequence[str]], Floats],
        grid: int,
    ) -> None:
        self._photos = list(photos(folder.select("validation")).values())
        self._pixels = [resize(folder.image(pairs[0].image)) for pairs in self._photos]
        self._human = [[to_grid(folder.saliency_map(pair), grid) for pair in pairs] for pairs in self._photos]
        self._texts = [
            np.stack([encode([pair.text])[0] if pair.text else np.zeros(512, np.float32) for pair in pairs])
            for pairs in self._photos
        ]

    @torch.inference_mode()
    def score(self, model: EdgeGenerator) -> dict[str, float]:
        """CC over all pairs and by condition, and ``guide``."""
        model.eval()
        by_condition: dict[str, list[float]] = {}
        opposed = []
        for pairs, pixels, human, text in zip(
            self._photos, self._pixels, self._human, self._texts, strict=True
        ):
            predicted = model(torch.from_numpy(pixels)[None], torch.from_numpy(text)[None])[0].numpy()
            maps = {pair.condition: (p, h) for pair, p, h in zip(pairs, predicted, human, strict=True)}
            for condition, (p, h) in maps.items():
                by_condition.setdefault(condition, []).append(cc(p, h))
            if "salient" in maps and "nonsalient" in maps:
                first, second = maps["salient"], maps["nonsalient"]
                opposed.append((first[0], second[0], first[1], second[1]))
        scores = {"all": float(np.mean([value for values in by_condition.values() for value in values]))}
        scores |= {condition: float(np.mean(values)) for condition, values in sorted(by_condition.items())}
        if opposed:
            scores["guide"] = guide(opposed)
        return scores
