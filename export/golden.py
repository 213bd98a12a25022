"""Makes the golden pairs of a bundle: what its graphs give on this machine's CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from salgan_edge import contract, samples
from salgan_edge.devices import Execution
from salgan_edge.session import GraphSession
from salgan_edge.verify.golden import NO_TEXT, GoldenData, GoldenPair

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from salgan_edge.tokenizer import ClipTokenizer

__all__ = ["make_golden"]

_LARGEST_GRID = 64
"""Of larger grids every second, third, ... row and column is kept: the file stays small."""

TEXTS = (
    "a spoon",
    "a cat",
    "a woman in an orange space suit",
    "ein Löffel, une tasse de café & 42 naïve things!",
    # Cut at 77 tokens.
    "a cup of coffee " * 25,
)

PAIRS: tuple[tuple[str, tuple[slice, slice], tuple[int, int], tuple[int, ...]], ...] = (
    # Sample, part of it, height and width that it is shrunk to, texts.
    ("coffee", (slice(None), slice(None)), (95, 143), (NO_TEXT, 0, 4, 3)),
    ("astronaut", (slice(0, 512), slice(60, 430)), (139, 101), (2, NO_TEXT)),
    ("chelsea", (slice(20, 290), slice(90, 360)), (111, 111), (1,)),
)


def make_golden(generator: Path, text_encoder: Path, tokenizer: ClipTokenizer) -> GoldenData:
    """Run both graphs on small photos, landscape, portrait and square, with 1 to 4 prompts each.

    Args:
        generator: ONNX file.
        text_encoder: ONNX file.
        tokenizer: of the text encoder.
    """
    ids = tokenizer.batch(TEXTS)
    embeddings = GraphSession(text_encoder, Execution("cpu")).run(
        contract.TEXT_EMBEDDING, {contract.INPUT_IDS: ids}
    )
    session = GraphSession(generator, Execution("cpu"))
    grid = [side for side in session.outputs[contract.SALIENCY][1][2:] if isinstance(side, int)]
    step = -(-max(grid, default=1) // _LARGEST_GRID)
    zero = np.zeros_like(embeddings[:1])
    pairs = []
    for name, part, shape, prompts in PAIRS:
        image = _shrunk(samples.load(name)[part], shape)
        vectors = np.concatenate([embeddings, zero])[list(prompts)]
        maps = session.run(
            contract.SALIENCY, {contract.IMAGE: image[None], contract.TEXT_EMBEDDING: vectors[None]}
        )[0]
        pairs.append(GoldenPair(image, prompts, np.ascontiguousarray(maps[:, ::step, ::step])))
    return GoldenData(TEXTS, ids, embeddings, step, tuple(pairs))


def _shrunk(photo: npt.NDArray[np.uint8], shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.resize(photo, shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
