"""Does this machine compute what the exporter's did?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from salgan_edge import contract
from salgan_edge.errors import BundleError
from salgan_edge.verification.checks import Check, value
from salgan_edge.verification.tolerance import closeness, tolerance_for

if TYPE_CHECKING:
    import numpy.typing as npt

    from salgan_edge.session import GraphSession
    from salgan_edge.tokenizer import ClipTokenizer
    from salgan_edge.verification.golden import GoldenData

__all__ = ["MAPS", "TOKENS", "VECTORS", "check_maps", "check_tokens", "check_vectors"]

TOKENS, VECTORS, MAPS = "golden tokens", "golden text vectors", "golden maps"
"""Names of the checks."""

_BEYOND = 1e-6
"""How far beyond 0..1 a value may be by rounding."""


def check_tokens(tokenizer: ClipTokenizer | None, golden: GoldenData) -> Check:
    """The tokenizer gives the golden tokens, all of them."""
    if tokenizer is None:
        return Check(TOKENS, "skipped", "the tokenizer could not be loaded")
    try:
        ids = tokenizer.batch(golden.texts)
    except Exception as error:  # noqa: BLE001 - whatever a changed tokenizer raises on a text
        return Check(TOKENS, "fail", str(error))
    wrong = (ids != golden.ids).any(axis=1)
    figures = {"texts": len(ids), "wrong": int(wrong.sum())}
    if wrong.any():
        first = golden.texts[int(wrong.argmax())][:40]
        detail = f"{int(wrong.sum())} of {len(ids)} texts have other tokens, the first is {first!r}"
        return Check(TOKENS, "fail", detail, figures)
    return Check(TOKENS, "ok", f"{len(ids)} of {len(ids)} texts have the same tokens", figures)


def check_vectors(session: GraphSession | None, golden: GoldenData, precision: str) -> Check:
    """The text encoder gives about the golden vectors for the golden tokens."""
    if session is None:
        return Check(VECTORS, "skipped", "the text encoder could not be loaded")
    limits = tolerance_for(precision, session.device)
    try:
        found = value(session, contract.TEXT_EMBEDDING, {contract.INPUT_IDS: golden.ids})
    except BundleError as error:
        return Check(VECTORS, "fail", str(error))
    close = closeness(found, golden.embeddings, limits.embedding, limits.correlation)
    problem = close.problem
    if not problem and np.abs(np.linalg.norm(found, axis=1) - 1).max() > limits.embedding * 10:
        problem = "a vector has not length 1"
    figures = {**close.to_dict(), "limits": asdict(limits), "texts": len(found)}
    detail = _figures(close.difference, close.correlation, limits.embedding, limits.correlation)
    detail = _joined(problem, f"{len(found)} texts", detail)
    return Check(VECTORS, "fail" if problem else "ok", detail, figures)


def check_maps(session: GraphSession | None, golden: GoldenData, precision: str) -> Check:
    """The generator gives about the golden maps for the golden photos and vectors."""
    if session is None:
        return Check(MAPS, "skipped", "the generator could not be loaded")
    limits = tolerance_for(precision, session.device)
    problems, results = [], []
    peaks: list[dict[str, list[int]]] = []
    for number, pair in enumerate(golden.pairs):
        photo = f"photo {number} ({pair.image.shape[1]}x{pair.image.shape[0]})"
        inputs: dict[str, npt.NDArray[Any]] = {
            contract.IMAGE: pair.image[None],
            contract.TEXT_EMBEDDING: golden.vectors(pair)[None],
        }
        try:
            maps = value(session, contract.SALIENCY, inputs)
        except BundleError as error:
            return Check(MAPS, "fail", f"{photo}: {error}")
        found = maps[0, :, :: golden.step, :: golden.step] if maps.ndim == 4 else maps
        close = closeness(found, pair.saliency, limits.saliency, limits.correlation)
        results.append((photo, close))
        problem = close.problem
        if not problem and not (found.min() >= -_BEYOND and found.max() <= 1 + _BEYOND):
            problem = f"values from {found.min():.3g} to {found.max():.3g}, 0 to 1 was expected"
        if problem:
            problems.append(f"{photo}: {problem}")
        if close.difference is not None:
            peaks += [
                {"golden": _peak(a, golden.step), "found": _peak(b, golden.step)}
                for a, b in zip(pair.saliency, found, strict=True)
            ]
    count = sum(len(pair.prompts) for pair in golden.pairs)
    difference = max((c.difference for _, c in results if c.difference is not None), default=None)
    correlation = min((c.correlation for _, c in results if c.correlation is not None), default=None)
    figures = {
        "difference": difference,
        "correlation": correlation,
        "limits": asdict(limits),
        "maps": count,
        "peaks": peaks,
        "photos": [{"photo": photo, **close.to_dict()} for photo, close in results],
    }
    unmoved = sum(peak["golden"] == peak["found"] for peak in peaks)
    detail = _joined(
        "; ".join(problems),
        f"{count} maps of {len(results)} photos",
        _figures(difference, correlation, limits.saliency, limits.correlation),
        f"peak in the same place in {unmoved} of {count}",
    )
    return Check(MAPS, "fail" if problems else "ok", detail, figures)


def _figures(difference: float | None, correlation: float | None, limit: float, least: float) -> str:
    if difference is None or correlation is None:
        return ""
    return (
        f"largest difference {difference:.1e} of {limit:.0e} allowed, "
        f"correlation {correlation:.6f} of {least:g} required"
    )


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _peak(values: npt.NDArray[np.float32], step: int) -> list[int]:
    """Column and row of the largest value on the generator's grid."""
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return [int(column) * step, int(row) * step]
