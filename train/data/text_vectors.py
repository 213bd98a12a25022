"""CLIP text vectors: true ones of class names, estimated ones of words and captions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from salgan_edge.train.data.coco import COCO_CLASSES, class_prompt

from salgan_edge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]

__all__ = [
    "TextVectors",
    "bare_name",
    "estimated_captions",
    "estimated_words",
    "held_out",
    "name_variants",
    "true_vectors",
]


@dataclass(frozen=True)
class TextVectors:
    """Texts with their vectors (n, 512), L2-normalised."""

    texts: list[str]
    vectors: Vectors

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.texts)

    def where(self, keep: npt.NDArray[np.bool_]) -> TextVectors:
        """The texts for which `keep` is true."""
        return TextVectors([t for t, k in zip(self.texts, keep, strict=True) if k], self.vectors[keep])


def _load(path: Path, texts: str, vectors: str) -> TextVectors:
    if not path.exists():
        raise DataError(
            f"{path} is missing: a clip_text folder as described in the README's 'Training' was expected"
        )
    with np.load(path) as file:
        table = file[vectors].astype(np.float32)
        table /= np.linalg.norm(table, axis=1, keepdims=True)
        return TextVectors([str(text).strip() for text in file[texts]], table)


def true_vectors(folder: Path) -> TextVectors:
    """True CLIP ViT-B/32 vectors of class names ("a dog")."""
    return _load(folder / "real_vit_b32.npz", "texts", "vectors")


def estimated_words(folder: Path) -> TextVectors:
    """Estimated vectors of the whole words of CLIP's vocabulary."""
    return _load(folder / "estimated.npz", "words", "word_vectors")


def estimated_captions(folder: Path, without: Collection[str] = ()) -> TextVectors:
    """Estimated vectors of captions, leaving out those in `without` (texts of held-out photos)."""
    captions = _load(folder / "estimated.npz", "captions", "caption_vectors")
    return captions.where(np.array([text not in without for text in captions.texts]))


def held_out(names: TextVectors, share: float) -> npt.NDArray[np.bool_]:
    """Which names are kept from training, chosen by hash; COCO's classes never are.

    The generator's fusion is built on the vectors of COCO's classes, so the encoder must know them.
    """
    known = {class_prompt(name) for name in COCO_CLASSES}
    limit = int(share * 2**32)
    return np.array(
        [t not in known and int(hashlib.sha256(t.encode()).hexdigest()[:8], 16) < limit for t in names.texts]
    )


def bare_name(text: str) -> str:
    """A name without its article: "dog" of "a dog"."""
    return text.removeprefix("a ").removeprefix("an ").removeprefix("the ")


def name_variants(text: str) -> list[str]:
    """Ways in which people ask for "a dog"; their CLIP vectors lie close together."""
    name = bare_name(text)
    if name == text:
        return [text]
    article = "an" if name[0] in "aeiou" else "a"
    return [text, f"{article} {name}", name, f"the {name}", f"my {name}", f"a photo of {article} {name}"]
