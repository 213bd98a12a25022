"""The training texts of a distillation as batches of token ids."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import torch
from salgan_edge.train.data.text_vectors import same_wording

from salgan_edge import contract
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from salgan_edge.train.data.lessons import Lessons
    from salgan_edge.train.distill_config import DistillConfig
    from torch import Tensor

__all__ = ["DistillTexts", "merged_from", "split_tokens"]


class DistillTexts:
    """Texts and their vectors: true ones often and with other articles, all others once per epoch.

    Args:
        lessons: what is taught; what is held out is left out.
        tokenizer_file: CLIP's ``tokenizer.json``.
        config: see `DistillConfig`.
    """

    def __init__(self, lessons: Lessons, tokenizer_file: Path, config: DistillConfig) -> None:
        true, others = lessons.true.where(~lessons.held_out), lessons.others
        self.targets = np.concatenate([true.texts.vectors, others.vectors])
        """Teacher vectors (n, d) of the true texts and then of the others."""
        self.weights = np.concatenate([true.weights, lessons.weights])
        self._tokenizer = ClipTokenizer(tokenizer_file)
        self._ids = [
            [self._tokens(variant) for variant in same_wording(text)] for text in true.texts.texts
        ] + [[self._tokens(text)] for text in others.texts]
        self._parts = merged_from(tokenizer_file)
        self._split_share = config.split_tokens
        self._order = np.concatenate(
            [np.repeat(np.arange(len(true)), config.name_repeats), np.arange(len(true), len(self._ids))]
        )
        self._lengths = np.array([len(ids[0]) for ids in self._ids])
        self.steps = -(-len(self._order) // config.batch_size)
        """Batches per epoch."""

    def single_tokens(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Ids (m,) of the tokens that are a whole text by themselves, with its vectors (m, d)."""
        rows = [row for row, ids in enumerate(self._ids) if len(ids[0]) == 3]
        return np.array([self._ids[row][0][1] for row in rows]), self.targets[rows]

    def batches(self, random: np.random.Generator) -> list[npt.NDArray[np.int64]]:
        """One epoch in random order, texts of like length together: padding costs as much as text."""
        order = random.permutation(self._order)
        order = order[np.argsort(self._lengths[order], kind="stable")]
        batches = np.array_split(order, self.steps)
        return [batches[n] for n in random.permutation(self.steps)]

    def batch(
        self, chosen: npt.NDArray[np.int64], random: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Token ids (n, L), teacher vectors (n, d) and weights (n,) of the chosen texts."""
        # In half of the batches words fall apart, so that rare pieces of words are trained too.
        share = self._split_share if random.random() < 0.5 else 0.0
        rows = []
        for number in chosen:
            variants = self._ids[number]
            ids = variants[int(random.integers(len(variants)))] if len(variants) > 1 else variants[0]
            if share:
                inner = split_tokens(ids[:-1], self._parts, share, random)
                ids = [*inner[: contract.CONTEXT_LENGTH - 1], self._tokenizer.end]
            rows.append(ids)
        length = max(len(ids) for ids in rows)
        table = np.full((len(rows), length), self._tokenizer.end, np.int64)
        for row, ids in enumerate(rows):
            table[row, : len(ids)] = ids
        return (
            torch.from_numpy(table),
            torch.from_numpy(self.targets[chosen]),
            torch.from_numpy(self.weights[chosen]),
        )

    def _tokens(self, text: str) -> list[int]:
        """Start, text and one end token."""
        ids = self._tokenizer.encode(text).ids
        return list(ids[: ids.index(self._tokenizer.end) + 1])


def merged_from(tokenizer_file: Path) -> dict[int, tuple[int, int]]:
    """The two tokens that byte-pair encoding merged each token from."""
    model = json.loads(tokenizer_file.read_text(encoding="utf-8"))["model"]
    vocabulary = model["vocab"]
    parts: dict[int, tuple[int, int]] = {}
    for merge in model["merges"]:
        # Older files write a merge as one string.
        first, second = merge.split(" ") if isinstance(merge, str) else merge
        parts.setdefault(vocabulary[first + second], (vocabulary[first], vocabulary[second]))
    return parts


def split_tokens(
    ids: Sequence[int], parts: Mapping[int, tuple[int, int]], share: float, random: np.random.Generator
) -> list[int]:
    """Token ids with some merges undone, each with probability `share`, and of what comes out again.

    Like BPE-dropout (Provilkov et al. 2020), and reproducible, which the dropout of the `tokenizers`
    package is not.
    """
    left, done = list(reversed(ids)), []
    while left:
        token = left.pop()
        if token in parts and random.random() < share:
            left.extend(reversed(parts[token]))
        else:
            done.append(token)
    return done
