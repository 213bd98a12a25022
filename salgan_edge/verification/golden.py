"""Golden pairs: small inputs and the outputs that the exported graphs gave for them.

They are kept in ``golden.npz`` of a bundle, so that any machine can find out whether it computes the
same (`salgan_edge.verification.verify`).

================= ======================= ==========================================================
array             type                    what
================= ======================= ==========================================================
``texts``         text (T,)               prompts
``ids``           int64 (T, 77)           their tokens
``embeddings``    float32 (T, dimension)  their vectors, as the text encoder gave them
``step``          int64 ()                every how many rows and columns of the saliency are kept
``image_<k>``     uint8 (H, W, 3)         photo of pair k, RGB
``prompts_<k>``   int64 (N,)              rows of ``embeddings`` that it was given; -1 for no text
``saliency_<k>``  float32 (N, h, w)       saliency, as the generator gave it
================= ======================= ==========================================================
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from salgan_edge import contract
from salgan_edge.errors import BundleFormatError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["NO_TEXT", "GoldenData", "GoldenPair"]

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
