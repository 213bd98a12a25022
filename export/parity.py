"""Proof of a bundle: PyTorch against ONNX Runtime, and golden pairs for other machines.

A miss is an error, never a warning. Golden pairs are what the graphs give on this machine's CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from salgan_edge import contract, samples
from salgan_edge.devices import Execution
from salgan_edge.errors import ParityError
from salgan_edge.resample import fit
from salgan_edge.session import GraphSession
from salgan_edge.verify.golden import NO_TEXT, GoldenData, GoldenPair

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from torch import nn

    from salgan_edge.tokenizer import ClipTokenizer

__all__ = [
    "EMBEDDING_TOLERANCE",
    "MAP_TOLERANCE",
    "Case",
    "check_generator",
    "check_text_encoder",
    "make_golden",
]

MAP_TOLERANCE = 1e-4
"""Largest absolute difference of a saliency value, 0..1."""

EMBEDDING_TOLERANCE = 1e-5
"""Largest absolute difference of an entry of a text vector of length 1."""

PROMPTS = (
    "a spoon",
    "a cat",
    "a woman in an orange space suit",
    "the flag in the background, to the left of the astronaut's head, and the model of the shuttle behind her",
    "two dogs",
)
_LONG_PROMPT = "a cup of coffee " * 40


@dataclass(frozen=True)
class Case:
    """One comparison."""

    name: str
    difference: float
    """Largest absolute difference."""
    tolerance: float


def check_text_encoder(module: nn.Module, path: Path, tokenizer: ClipTokenizer) -> list[Case]:
    """Compare short, long and 77-token prompts, alone and in batches.

    Raises:
        ParityError: the output's shape or a value differs; all figures are named.
    """
    session = GraphSession(path, Execution("cpu"))
    cases = []
    for name, texts in (
        ("1 prompt", PROMPTS[:1]),
        ("5 prompts", PROMPTS),
        ("77 tokens", (_LONG_PROMPT,)),
        ("2 prompts, one of 77 tokens", (PROMPTS[0], _LONG_PROMPT)),
    ):
        ids = tokenizer.batch(texts)
        with torch.inference_mode():
            expected = module(torch.from_numpy(ids)).numpy()
        got = session.run(contract.TEXT_EMBEDDING, {contract.INPUT_IDS: ids})
        cases.append(Case(f"text encoder, {name}", _difference(got, expected, name), EMBEDDING_TOLERANCE))
    return _checked(cases)


def check_generator(
    module: nn.Module,
    path: Path,
    dimension: int,
    text: npt.NDArray[np.float32],
    size: tuple[int, int],
) -> list[Case]:
    """Compare batches of 1, 2 and 5 photos, 1 and 4 prompts: landscape, portrait, and fitted ones.

    Args:
        module: the PyTorch generator.
        path: the exported graph.
        dimension: length of a text vector.
        text: vectors (n, dimension) of `PROMPTS`.
        size: height and width in pixels of the generator's input.

    Raises:
        ParityError: the output's shape or a value differs; all figures are named.
    """
    session = GraphSession(path, Execution("cpu"))
    vectors = np.concatenate([np.zeros((1, dimension), np.float32), text])
    cases = []
    for batch, prompts in ((1, 1), (1, 4), (2, 1), (2, 4), (5, 1), (5, 4)):
        for form, shape in (("landscape", (300, 400)), ("portrait", (400, 300)), ("fitted", (480, 640))):
            name = f"{batch} photos, {prompts} prompts, {form}"
            image = _photos(batch, shape)
            if form == "fitted":
                # What both are given by `SaliencyPredictor.predict`; the other forms show the graph's own resize.
                image = np.stack([fit(photo, *size) for photo in image])
            # Every photo of a batch gets other prompts; the first is free viewing.
            chosen = np.arange(batch * prompts).reshape(batch, prompts) % len(vectors)
            with torch.inference_mode():
                expected = module(torch.from_numpy(image), torch.from_numpy(vectors[chosen])).numpy()
            got = session.run(
                contract.SALIENCY, {contract.IMAGE: image, contract.TEXT_EMBEDDING: vectors[chosen]}
            )
            cases.append(Case(f"generator, {name}", _difference(got, expected, name), MAP_TOLERANCE))
    return _checked(cases)


def _photos(count: int, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Different crops (count, *shape, 3) of the sample photos."""
    crops = []
    for number in range(count):
        photo = samples.load(samples.NAMES[number % len(samples.NAMES)])
        if photo.shape[0] < shape[0] or photo.shape[1] < shape[1]:
            photo = np.pad(
                photo,
                [(0, max(0, s - p)) for s, p in zip(shape, photo.shape[:2], strict=True)] + [(0, 0)],
                mode="reflect",
            )
        top, left = (photo.shape[0] - shape[0]) // 2, (photo.shape[1] - shape[1]) // 2
        crop = photo[top : top + shape[0], left : left + shape[1]]
        crops.append(crop[:, ::-1] if number >= len(samples.NAMES) else crop)
    return np.stack(crops)


def _difference(got: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], name: str) -> float:
    if got.shape != expected.shape or got.dtype != expected.dtype:
        raise ParityError(
            f"{name}: ONNX Runtime gives {got.dtype} {got.shape}, PyTorch {expected.dtype} {expected.shape}"
        )
    difference = np.abs(got - expected).max()
    return float(difference) if np.isfinite(difference) else float("inf")


def _checked(cases: list[Case]) -> list[Case]:
    missed = [case for case in cases if case.difference > case.tolerance]
    if missed:
        figures = "; ".join(
            f"{case.name}: {case.difference:.2e} (at most {case.tolerance:.0e})" for case in missed
        )
        raise ParityError(
            f"PyTorch and ONNX Runtime disagree in {len(missed)} of {len(cases)} cases: {figures}"
        )
    return cases


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

PAIRS: tuple[tuple[str, tuple[slice, slice], tuple[int, int], int, tuple[int, ...]], ...] = (
    # Sample, part of it, height and width that it is shrunk to, how often each pixel is repeated, texts.
    ("coffee", (slice(None), slice(None)), (95, 143), 1, (NO_TEXT, 0, 4, 3)),
    ("astronaut", (slice(0, 512), slice(60, 430)), (139, 101), 1, (2, NO_TEXT)),
    ("chelsea", (slice(20, 290), slice(90, 360)), (111, 111), 1, (1,)),
    # As large as a webcam's picture, which is averaged before the graph; repeated pixels compress well.
    ("coffee", (slice(None), slice(0, 533)), (120, 160), 4, (0,)),
)


def make_golden(
    generator: Path, text_encoder: Path, tokenizer: ClipTokenizer, size: tuple[int, int]
) -> GoldenData:
    """Run both graphs on photos, small ones and one to be shrunk, with 1 to 4 prompts each.

    Photos take the way that they take in `SaliencyPredictor.predict`.

    Args:
        generator: ONNX file.
        text_encoder: ONNX file.
        tokenizer: of the text encoder.
        size: height and width in pixels of the generator's input.
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
    for name, part, shape, repeat, prompts in PAIRS:
        image = _shrunk(samples.load(name)[part], shape).repeat(repeat, axis=0).repeat(repeat, axis=1)
        vectors = np.concatenate([embeddings, zero])[list(prompts)]
        maps = session.run(
            contract.SALIENCY,
            {contract.IMAGE: fit(image, *size)[None], contract.TEXT_EMBEDDING: vectors[None]},
        )[0]
        pairs.append(GoldenPair(image, prompts, np.ascontiguousarray(maps[:, ::step, ::step])))
    return GoldenData(TEXTS, ids, embeddings, step, tuple(pairs))


def _shrunk(photo: npt.NDArray[np.uint8], shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.resize(photo, shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
