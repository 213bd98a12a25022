"""CLIP text vectors: true ones of names in several wordings, estimated ones of words and captions.

CLIP tells "dog", "a dog" and "a photo of a dog" apart, by a step that is much the same for all things.
"""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from salgan_edge.errors import DataError
from salgan_edge.gaze.detector import COCO_CLASSES, class_prompt, object_prompt

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]

__all__ = [
    "BARE",
    "NAME",
    "PHOTO",
    "UNKNOWN",
    "TextVectors",
    "TrueTexts",
    "all_true_vectors",
    "bare_name",
    "estimated_captions",
    "estimated_words",
    "held_out",
    "held_out_things",
    "imagenet_names",
    "name_variants",
    "reworded",
    "same_wording",
    "thing_key",
    "true_vectors",
    "unit",
    "wording_of",
]

NAME, PHOTO, BARE, UNKNOWN = "name", "photo", "bare", "unknown"
"""Wordings: "a dog", "a photo of a dog", "dog", and a prompt that nobody noted."""

_NAMES, _IMAGENET = "names", "imagenet"
_SOURCES = {
    # Source in true_vit_b32_more.npz: wording, weight beside a name of real_vit_b32.npz, table.
    "clip_lt/text_features.pt": (NAME, 1.0, _IMAGENET),
    "clip_lt/text_features2.pt": (PHOTO, 1.0, ""),
    "object-centric-ovd/lvis photo": (PHOTO, 1.0, ""),
    "moodboard": (BARE, 1.0, ""),
    # The names were inferred from the vectors.
    "CoDet cococap (true vector, name inferred by alphabet + neighbours)": (NAME, 0.6, ""),
    "ego4d taxonomy (prompt unknown)": (UNKNOWN, 0.3, ""),
}
_DETERMINER = re.compile(r"^(a|an|the|my|one) ", re.IGNORECASE)
_PHOTO = re.compile(r"^a photo of ", re.IGNORECASE)


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


@dataclass(frozen=True)
class TrueTexts:
    """Texts with true vectors, of several sources and in several wordings; a text may come twice."""

    texts: TextVectors
    wordings: list[str]
    """`NAME`, `PHOTO`, `BARE` or `UNKNOWN`, for each text."""
    weights: Vectors
    """How far each is to be trusted (n,), from 0 to 1."""
    tables: list[str]
    """Among which names each is measured: ``names`` (the 1,585), ``imagenet``, or empty for none."""

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.texts)

    def where(self, keep: npt.NDArray[np.bool_]) -> TrueTexts:
        """The texts for which `keep` is true."""
        return TrueTexts(
            self.texts.where(keep),
            [w for w, k in zip(self.wordings, keep, strict=True) if k],
            self.weights[keep],
            [t for t, k in zip(self.tables, keep, strict=True) if k],
        )

    def in_wording(self, wording: str) -> npt.NDArray[np.bool_]:
        """Which texts have this wording (n,)."""
        return np.array([w == wording for w in self.wordings], bool)

    def of_table(self, table: str) -> npt.NDArray[np.bool_]:
        """Which texts are measured in this table (n,)."""
        return np.array([t == table for t in self.tables], bool)

    @classmethod
    def of_names(cls, names: TextVectors) -> TrueTexts:
        """Names "a X" alone, each as trusted as the others."""
        count = len(names)
        return cls(names, [NAME] * count, np.ones(count, np.float32), [_NAMES] * count)


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


def all_true_vectors(folder: Path) -> TrueTexts:
    """The names of `true_vectors`, then the further true vectors of ``true_vit_b32_more.npz`` if it is there.

    Ego4D's verbs are left out: their prompt is unknown, and verbs in a known one to learn it from are not there.

    Raises:
        DataError: the names are missing, or a further vector is of a source that this code does not know.
    """
    names = TrueTexts.of_names(true_vectors(folder))
    path = folder / "true_vit_b32_more.npz"
    if not path.exists():
        return names
    more = _load(path, "texts", "vectors")
    with np.load(path) as file:
        sources = [str(source) for source in file["sources"]]
    nouns = np.array([not text.startswith("ego4d verb: ") for text in more.texts], bool)
    more, sources = more.where(nouns), [s for s, keep in zip(sources, nouns, strict=True) if keep]
    unknown = sorted(set(sources) - set(_SOURCES))
    if unknown:
        raise DataError(
            f"{path} has vectors of the source {unknown[0]}: one of {', '.join(_SOURCES)} was expected"
        )
    wordings, weights, tables = zip(*(_SOURCES[source] for source in sources), strict=True)
    return TrueTexts(
        TextVectors(
            [*names.texts.texts, *(_readable(t) for t in more.texts)],
            np.concatenate([names.texts.vectors, more.vectors]),
        ),
        [*names.wordings, *wordings],
        np.concatenate([names.weights, np.array(weights, np.float32)]),
        [*names.tables, *tables],
    )


def _readable(text: str) -> str:
    """A label as words: "bag" of "ego4d noun: bag_(bag,_sack)"."""
    return text.removeprefix("ego4d noun: ").split("_(")[0].replace("_", " ").strip()


def estimated_words(folder: Path) -> TextVectors:
    """Estimated vectors of the whole words of CLIP's vocabulary."""
    return _load(folder / "estimated.npz", "words", "word_vectors")


def estimated_captions(folder: Path, without: Collection[str] = ()) -> TextVectors:
    """Estimated vectors of captions, leaving out those in `without` (texts of held-out photos)."""
    captions = _load(folder / "estimated.npz", "captions", "caption_vectors")
    return captions.where(np.array([text not in without for text in captions.texts]))


def imagenet_names(table: Path) -> list[str]:
    """What ImageNet's classes are called, "a tench", in their usual order; empty where unknown.

    Args:
        table: ``phrases.csv`` with a column ``imagenet_index``.

    Raises:
        DataError: there is no such table.
    """
    names = [""] * 1000
    try:
        with table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                names[int(row["imagenet_index"])] = row["phrase"]
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise DataError(
            f"{table} cannot be used ({error}): a table with the columns phrase and imagenet_index was expected"
        ) from error
    return names


def held_out(names: TextVectors, share: float) -> npt.NDArray[np.bool_]:
    """Which names are kept from training, chosen by hash; COCO's classes never are.

    The generator's fusion is built on the vectors of COCO's classes, so the encoder must know them.
    """
    known = {class_prompt(name) for name in COCO_CLASSES}
    limit = int(share * 2**32)
    return np.array(
        [t not in known and int(hashlib.sha256(t.encode()).hexdigest()[:8], 16) < limit for t in names.texts]
    )


def held_out_things(true: TrueTexts, share: float) -> npt.NDArray[np.bool_]:
    """Which true texts are kept from training: the same thing in every wording and of every source.

    The names of the 1,585 are chosen by `held_out`. Of ImageNet's names those that are not among them
    are chosen by the hash of the bare name. Every other text goes with its thing (see `thing_key`).
    COCO's classes never are held out.
    """
    limit = int(share * 2**32)
    keys = [thing_key(text) for text in true.texts.texts]
    names = true.of_table(_NAMES)
    chosen = held_out(true.texts.where(names), share)
    own = [key for key, named in zip(keys, names, strict=True) if named]
    secret = {key for key, held in zip(own, chosen, strict=True) if held}
    known = set(own)
    for text, key, table in zip(true.texts.texts, keys, true.tables, strict=True):
        bare = bare_name(text).lower()
        if table == _IMAGENET and key not in known and int(_hash(bare), 16) < limit:
            secret.add(key)
    secret -= {thing_key(name) for name in COCO_CLASSES}
    return np.array([key in secret for key in keys], bool)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def thing_key(text: str) -> str:
    """What a text names, whatever its wording, number, case and spaces: for comparing, not for reading.

    >>> thing_key("a photo of a Golf-cart"), thing_key("golf carts"), thing_key("the boxes")
    ('golfcart', 'golfcart', 'box')
    """
    word = re.sub(r"[^\w]|_", "", _DETERMINER.sub("", _PHOTO.sub("", text)).lower())
    if re.search(r"(ss|x|z|ch|sh)es$", word):
        return word[:-2]
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return re.sub(r"(?<=[^s])s$", "", word)


def wording_of(text: str) -> str:
    """`PHOTO`, `NAME` for what begins with an article, "my" or "one", or `BARE`."""
    return PHOTO if _PHOTO.match(text) else NAME if _DETERMINER.match(text) else BARE


def reworded(text: str, wording: str) -> str:
    """A name in another wording.

    >>> reworded("a owl", "photo"), reworded("a photo of an owl", "bare"), reworded("owl", "name")
    ('a photo of an owl', 'owl', 'an owl')
    """
    bare = bare_name(text)
    named = f"{'an' if bare[:1].lower() in tuple('aeiou') else 'a'} {bare}"
    return {BARE: bare, NAME: named, PHOTO: f"a photo of {named}"}[wording]


def same_wording(text: str) -> list[str]:
    """The text itself, and what CLIP gives about the same vector: other articles before a name."""
    wording, bare = wording_of(text), bare_name(text)
    if wording == BARE:
        return [text]
    others = [reworded(text, wording)]
    if wording == NAME:
        others += [f"the {bare}", f"my {bare}"]
    return list(dict.fromkeys([text, *others]))


def bare_name(text: str) -> str:
    """A name without article or prompt: "dog" of "a dog" and of "a photo of a dog"."""
    return _PHOTO.sub("", text).removeprefix("a ").removeprefix("an ").removeprefix("the ")


def name_variants(text: str) -> list[str]:
    """Ways in which people ask for "a dog"; their CLIP vectors lie close together."""
    name = bare_name(text)
    if name == text:
        return [text]
    one = object_prompt(name)
    return [text, one, name, f"the {name}", f"my {name}", f"a photo of {one}"]


def unit(vectors: Vectors) -> Vectors:
    """Vectors (..., d) brought to length 1; zero stays zero."""
    scaled: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-8)
    return scaled
