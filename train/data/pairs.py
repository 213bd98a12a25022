"""Pairs of photo and text as the paper trains on them: each once an epoch, unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from salgan_edge.train.data.samples import Batch, to_grid
from salgan_edge.train.losses import density
from salgan_edge.train.networks.edge import domain_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from salgan_edge.train.config import TrainConfig

    from salgan_edge.gaze.folder import GazeFolder

    Floats = npt.NDArray[np.float32]

__all__ = ["PairSet"]


class PairSet:
    """Draws batches of single pairs, B of them with one prompt each.

    Args:
        folders: gaze folders; their names are those of `DOMAINS`.
        resize: photo (H, W, 3) to the network's input (size, size, 3), as the graph does it.
        encode: texts to vectors (n, dimension).
        config: see `TrainConfig`.
        grid: side of the target maps in cells.
    """

    def __init__(
        self,
        folders: Sequence[GazeFolder],
        resize: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]],
        encode: Callable[[Sequence[str]], Floats],
        config: TrainConfig,
        grid: int,
    ) -> None:
        self._config = config
        self._pairs = [(folder, pair) for folder in folders for pair in folder.select("train")]
        self._pixels = {
            key: resize(folder.image(key[1]))
            for key, folder in {(f.name, pair.image): f for f, pair in self._pairs}.items()
        }
        self._maps = [to_grid(folder.saliency_map(pair), grid) for folder, pair in self._pairs]
        self._fixations = [
            folder.fixation_map(pair, (grid, grid)).astype(np.float32) for folder, pair in self._pairs
        ]
        texts = sorted({pair.text for _, pair in self._pairs if pair.text})
        vectors = encode(texts)
        self._vectors = dict(zip(texts, vectors, strict=True))
        self._no_text = np.zeros(vectors.shape[1], np.float32)

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._pairs)

    def batches(self, random: np.random.Generator) -> list[list[int]]:
        """One epoch: indices of the pairs of each step."""
        order = random.permutation(len(self))
        return [list(part) for part in np.array_split(order, max(1, len(order) // self._config.batch_size))]

    def batch(self, chosen: Sequence[int], random: np.random.Generator) -> Batch:
        """The chosen pairs, nothing changed; texts get noise if the configuration says so."""
        vectors = []
        for index in chosen:
            text = self._pairs[index][1].text
            noise = random.normal(0, self._config.text_noise, self._no_text.shape).astype(np.float32)
            vectors.append(self._vectors[text] + noise if text else self._no_text)
        folders = [self._pairs[index][0].name for index in chosen]
        weights = [1.0 if name == self._config.product else self._config.free_view_weight for name in folders]
        return Batch(
            pixels=torch.from_numpy(
                np.stack([self._pixels[self._pairs[i][0].name, self._pairs[i][1].image] for i in chosen])
            ),
            text=torch.from_numpy(np.stack(vectors)[:, None]),
            target=density(torch.from_numpy(np.stack([self._maps[i] for i in chosen])[:, None])),
            weight=torch.tensor(weights)[:, None],
            domain=torch.tensor([[domain_of(name, self._config.product)] for name in folders]),
            fixations=torch.from_numpy(np.stack([self._fixations[i] for i in chosen])[:, None]),
        )
