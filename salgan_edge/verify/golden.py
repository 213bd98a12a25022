"""Golden pairs: small inputs and the outputs that the exported graphs gave for them, and whether this machine computes the same.

They are kept in ``golden.npz`` of a bundle, so that any machine can find out whether it computes the
same (`salgan_edge.verify.verify`).

================= ======================= ==========================================================
array             type                    what
================= ======================= ==========================================================
``texts``         text (T,)               prompts
``ids``           int64 (T, 77)           their tokens
``embeddings``    float32 (T, dimension)  their vectors, as the text encoder gave them
``step``          int64 ()                every how many rows and columns of the saliency are kept
``image_<k>``     uint8 (H, W, 3)         photo of pair k, RGB
``prompts_<k>``   int64 (N,)              rows of ``embeddings`` that it was given; -1 for no text
``saliency_<k>``  float32 (N, h, w)       saliency, as the generator gave it for the fitted photo
================= ======================= ==========================================================
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from salgan_edge import contract
from salgan_edge.errors import BundleError, BundleFormatError
from salgan_edge.metrics import cc
from salgan_edge.resample import PREPARATION, fit
from salgan_edge.verify.checks import Check, value

if TYPE_CHECKING:
    import numpy.typing as npt

    from salgan_edge.bundle import Manifest
    from salgan_edge.session import GraphSession
    from salgan_edge.tokenizer import ClipTokenizer

__all__ = [
    "MAPS",
    "NO_TEXT",
    "TOKENS",
    "VECTORS",
    "Closeness",
    "GoldenData",
    "GoldenPair",
    "Tolerance",
    "check_maps",
    "check_tokens",
    "check_vectors",
    "closeness",
    "prepared",
    "tolerance_for",
]

NO_TEXT = -1
"""Stands for the zero vector among the prompts of a pair."""


@dataclass(frozen=True)
class GoldenPair:
    """A photo, prompts, and the saliency for them."""

    image: npt.NDArray[np.uint8]
    """RGB (H, W, 3)."""
    prompts: tuple[int, ...]
    """Index of each prompt's text, or `NO_TEXT`."""
    saliency: npt.NDArray[np.float32]
    """(N, h, w), 0..1, every `GoldenData.step`-th row and column of the generator's grid."""


@dataclass(frozen=True)
class GoldenData:
    """Everything in ``golden.npz``."""

    texts: tuple[str, ...]
    ids: npt.NDArray[np.int64]
    """Tokens (T, 77)."""
    embeddings: npt.NDArray[np.float32]
    """Vectors (T, dimension)."""
    step: int
    pairs: tuple[GoldenPair, ...]

    def vectors(self, pair: GoldenPair) -> npt.NDArray[np.float32]:
        """Text vectors (N, dimension) of a pair's prompts, the zero vector for no text."""
        rows = np.concatenate([self.embeddings, np.zeros_like(self.embeddings[:1])])
        return rows[list(pair.prompts)]

    def to_bytes(self) -> bytes:
        """The file's content; the same data give the same bytes."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "texts": np.array(self.texts),
            "ids": self.ids,
            "embeddings": self.embeddings,
            "step": np.array(self.step, np.int64),
        }
        for number, pair in enumerate(self.pairs):
            arrays[f"image_{number}"] = pair.image
            arrays[f"prompts_{number}"] = np.array(pair.prompts, np.int64)
            arrays[f"saliency_{number}"] = pair.saliency
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> GoldenData:
        """Read the file's content.

        Raises:
            BundleFormatError: it is no such file, or an array is missing or does not fit.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                count = sum(name.startswith("image_") for name in arrays.files)
                found = GoldenData(
                    texts=tuple(str(text) for text in arrays["texts"]),
                    ids=arrays["ids"],
                    embeddings=arrays["embeddings"],
                    step=int(arrays["step"]),
                    pairs=tuple(
                        GoldenPair(
                            arrays[f"image_{k}"],
                            tuple(int(index) for index in arrays[f"prompts_{k}"]),
                            arrays[f"saliency_{k}"],
                        )
                        for k in range(count)
                    ),
                )
        except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise BundleFormatError(
                f"{contract.GOLDEN_FILE} cannot be read: {error}; copy or export the bundle again"
            ) from error
        found._check()
        return found

    def _check(self) -> None:
        texts = len(self.texts)
        fits = (
            texts > 0
            and len(self.pairs) > 0
            and self.step >= 1
            and self.ids.shape == (texts, contract.CONTEXT_LENGTH)
            and self.embeddings.ndim == 2
            and len(self.embeddings) == texts
            and all(
                pair.image.ndim == 3
                and pair.image.dtype == np.uint8
                and pair.saliency.ndim == 3
                and len(pair.saliency) == len(pair.prompts) > 0
                and all(NO_TEXT <= index < texts for index in pair.prompts)
                for pair in self.pairs
            )
        )
        if not fits:
            raise BundleFormatError(
                f"the arrays of {contract.GOLDEN_FILE} do not fit together: export the bundle again"
            )


@dataclass(frozen=True)
class Tolerance:
    """Limits of one precision on one kind of device."""

    saliency: float
    """Largest absolute difference of a saliency value, 0..1."""
    embedding: float
    """Largest absolute difference of an entry of a text vector of length 1."""
    correlation: float
    """Least correlation of a map, and of a text vector, with the golden one."""


# Set by what the embedded model's graphs differ by when their arithmetic is changed, with room for
# other models. Figures are the largest differences of a map value.
_TOLERANCES = {
    # Another CPU adds up in another order: 2e-6 between onnxruntime's levels of optimisation.
    ("fp32", "cpu"): Tolerance(1e-4, 1e-4, 0.99999),
    # CUDA may multiply float32 as TF32, whose mantissa is float16's.
    ("fp32", "cuda"): Tolerance(5e-3, 1e-3, 0.9998),
    # A CPU may compute in float32 between the roundings to float16: 5e-5 between levels of
    # optimisation, 2e-4 between float16 and float32.
    ("fp16", "cpu"): Tolerance(2e-3, 5e-4, 0.9999),
    # A GPU may also add up in float16.
    ("fp16", "cuda"): Tolerance(1e-2, 2e-3, 0.9995),
    # Sums of bytes saturate on x86 CPUs without VNNI, and a value at the border of two steps falls
    # to either side, from where it is carried on.
    ("int8", "cpu"): Tolerance(1e-1, 5e-3, 0.99),
    ("int8", "cuda"): Tolerance(1e-1, 5e-3, 0.99),
    # A float16 generator, and a text encoder that only stores its weights as bytes.
    ("mixed", "cpu"): Tolerance(2e-3, 5e-4, 0.9999),
    ("mixed", "cuda"): Tolerance(1e-2, 2e-3, 0.9995),
}


def tolerance_for(precision: str, device: str) -> Tolerance:
    """Limits for a bundle's precision and a device.

    A precision that is not known has those of ``int8``. Every device but the CPU has those of ``cuda``:
    they too may multiply with fewer bits (TF32, BF16).
    """
    place = "cpu" if device == "cpu" else "cuda"
    return _TOLERANCES.get((precision, place), _TOLERANCES["int8", place])


@dataclass(frozen=True)
class Closeness:
    """How close an array is to the golden one of the same shape."""

    difference: float | None
    """Largest absolute difference; None where a value is not finite or the shape is another."""
    correlation: float | None
    """Least correlation of a row or map; None likewise."""
    problem: str
    """What is wrong, without the limits' figures; empty if both are within them."""

    def to_dict(self) -> dict[str, Any]:
        """Figures for JSON."""
        return {"difference": self.difference, "correlation": self.correlation}


def closeness(
    found: npt.NDArray[np.float32], golden: npt.NDArray[np.float32], limit: float, correlation: float
) -> Closeness:
    """Compare rows or maps.

    Args:
        found: (N, ...) as computed here.
        golden: (N, ...) as stored.
        limit: largest absolute difference allowed.
        correlation: least correlation of each of the N allowed.
    """
    if found.shape != golden.shape:
        return Closeness(None, None, f"the shape is {found.shape}, {golden.shape} was expected")
    if not np.isfinite(found).all():
        count = int((~np.isfinite(found)).sum())
        return Closeness(None, None, f"{count} of {found.size} values are NaN or infinite")
    difference = float(np.abs(found - golden).max())
    least = min(cc(a, b) for a, b in zip(found, golden, strict=True))
    # A golden map without contrast correlates with nothing.
    flat = any(np.ptp(row) < limit for row in golden)
    problems = []
    if not difference <= limit:
        problems.append("the difference is too large")
    if not (least >= correlation or flat):
        problems.append("the correlation is too small")
    return Closeness(difference, least, " and ".join(problems))


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


def check_maps(session: GraphSession | None, golden: GoldenData, manifest: Manifest) -> Check:
    """The generator gives about the golden maps for the golden photos and vectors.

    Photos take the way that they take in `SaliencyPredictor.predict`.
    """
    if session is None:
        return Check(MAPS, "skipped", "the generator could not be loaded")
    if manifest.preparation not in ("", PREPARATION):
        detail = f"made for photos prepared by {manifest.preparation}, this salgan-edge has {PREPARATION}: pip install -U salgan-edge"
        return Check(MAPS, "fail", detail)
    limits = tolerance_for(manifest.precision, session.device)
    problems, results = [], []
    peaks: list[dict[str, list[int]]] = []
    for number, pair in enumerate(golden.pairs):
        photo = f"photo {number} ({pair.image.shape[1]}x{pair.image.shape[0]})"
        inputs: dict[str, npt.NDArray[Any]] = {
            contract.IMAGE: prepared(pair.image, manifest)[None],
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


def prepared(image: npt.NDArray[np.uint8], manifest: Manifest) -> npt.NDArray[np.uint8]:
    """A photo as the generator of a bundle is given it: fitted, unless golden outputs were made without."""
    return fit(image, *manifest.input_size) if manifest.preparation else image


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
