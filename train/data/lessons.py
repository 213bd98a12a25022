"""What a text encoder is taught: texts with a teacher's vectors, and batches of their token ids.

Two kinds of teacher: a ``clip_text`` folder of precomputed vectors, true ones of names in several
wordings and estimated ones of other texts, and a CLIP text model, whose vectors are all true.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from salgan_edge.train.data import phrases, text_vectors
from salgan_edge.train.data.named import has_texts
from salgan_edge.train.data.text_teachers import WordingSteps
from salgan_edge.train.data.text_vectors import TextVectors, TrueTexts, same_wording, unit

from salgan_edge import contract
from salgan_edge.errors import DataError
from salgan_edge.files import writing
from salgan_edge.gaze.detector import COCO_CLASSES, class_prompt
from salgan_edge.gaze.folder import GazeFolder
from salgan_edge.gaze.phrases import PhraseSet, wordings
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from salgan_edge.train.config import DistillConfig
    from salgan_edge.train.data.text_teachers import SentenceTeacher
    from torch import Tensor

    Floats = npt.NDArray[np.float32]

__all__ = [
    "DistillTexts",
    "Lessons",
    "lessons_of_model",
    "merged_from",
    "precomputed_lessons",
    "read_texts",
    "split_tokens",
]

_LEAST = 0.3
"""Weight of the least sure estimate against a true vector."""
_STEPPED = 0.8
"""Weight of a name's vector that was led to another wording."""


@dataclass(frozen=True)
class Lessons:
    """Texts and vectors to distil from and to measure on."""

    true: TrueTexts
    """Texts with true vectors: trained on, or held out."""
    held_out: npt.NDArray[np.bool_]
    """Which true texts are only measured; what they name is among `others` in no wording."""
    others: TextVectors
    """Other texts to train on."""
    weights: Floats
    """Weight of each of the others in the loss, from 0 to 1."""

    @property
    def mean(self) -> Floats:
        """Mean (d,) of the 1,585 names' vectors, about which directions are learnt and measured."""
        mean: Floats = self.true.texts.vectors[self.true.of_table("names")].mean(0)
        return mean

    def save(self, path: Path) -> None:
        """Write all to an ``.npz`` file, vectors as float16."""
        with writing(path) as temporary:
            np.savez(
                temporary, true=_strings(self.true.texts.texts),
                true_vectors=self.true.texts.vectors.astype(np.float16), wordings=_strings(self.true.wordings),
                true_weights=self.true.weights, tables=_strings(self.true.tables),
                held_out=self.held_out, texts=_strings(self.others.texts),
                vectors=self.others.vectors.astype(np.float16), weights=self.weights,
            )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> Lessons:
        """Read what `save` wrote."""
        with np.load(path) as file:
            return cls(
                TrueTexts(
                    TextVectors(file["true"].tolist(), unit(file["true_vectors"].astype(np.float32))),
                    file["wordings"].tolist(),
                    file["true_weights"],
                    file["tables"].tolist(),
                ),
                file["held_out"],
                TextVectors(file["texts"].tolist(), unit(file["vectors"].astype(np.float32))),
                file["weights"],
            )


def precomputed_lessons(
    data: Path,
    config: DistillConfig,
    sentences: Callable[[TextVectors, Floats], SentenceTeacher] | None,
    texts: Sequence[str] = (),
) -> Lessons:
    """Lessons of the folder ``clip_text`` in `data`.

    Args:
        data: folder that holds ``clip_text`` and ``sjtu_tis``; texts of photos in ``phrases`` are
            taught too where that is there.
        config: how many phrases to make.
        sentences: makes an estimator from the names "a X" to train on and their weights. It estimates
            words and captions anew and phrases besides, each in its own wording; without it the
            folder's own estimates are used. If those were fitted on all names, as the project's were,
            the plurals of held-out names give them away, and agreement on held-out names is too good.
        texts: further texts to teach.

    Raises:
        DataError: a part of the data is missing, or there is nothing to estimate `texts` with.
    """
    random = np.random.default_rng(config.seed)
    folder = data / "clip_text"
    true = text_vectors.all_true_vectors(folder)
    held_out = text_vectors.held_out_things(true, config.held_out)
    known = true.where(~held_out)
    names = known.where(known.in_wording(text_vectors.NAME)).texts
    steps = WordingSteps(known)
    words = text_vectors.estimated_words(folder)
    unseen = _unseen(data)
    captions = text_vectors.estimated_captions(folder, without=unseen)
    if sentences is None:
        if texts:
            raise DataError(
                "precomputed vectors have none for the file of texts: give --sentence-model to estimate them, "
                "or a CLIP text model as --teacher"
            )
        estimated = _joined(words, captions)
        sure = np.ones(len(estimated), np.float32)
    else:
        made = _phrases(names.texts, words.texts, captions.texts, config, random)
        taught = [*words.texts, *captions.texts, *texts, *_of_photos(data), *made]
        taught = list(dict.fromkeys(taught))
        vectors, sure = sentences(*steps.as_names(known)).estimate(taught)
        vectors = steps.reworded(vectors, [text_vectors.wording_of(text) for text in taught])
        estimated = TextVectors(taught, vectors)
    listed = true.of_table("names")
    mean = true.texts.vectors[listed & ~held_out].mean(0)
    estimated = with_attributes(estimated, true.texts.where(listed), mean, config.attribute)
    stepped, trusted = steps.missing(known)
    better = set(stepped.texts)
    new = np.array([text not in better for text in estimated.texts], bool)
    estimated, sure = estimated.where(new), sure[new]
    both = _compounds(names, mean, config.compounds, random)
    others = _joined(_joined(estimated, stepped), both)
    weights = np.concatenate([_LEAST + (1 - _LEAST) * sure, _STEPPED * trusted, np.ones(len(both))]).astype(
        np.float32
    )
    keep = _allowed(others.texts, known, true.texts.where(held_out).texts, unseen)
    # What nobody noted the prompt of teaches by way of the steps alone.
    noted = ~true.in_wording(text_vectors.UNKNOWN)
    return Lessons(true.where(noted), held_out[noted], others.where(keep), weights[keep])


def _compounds(names: TextVectors, mean: Floats, count: int, random: np.random.Generator) -> TextVectors:
    """Pairs of names, each with the sum of both about the mean.

    The sum of two unlike names lies nearer to the mean than either: half of it, grown by sqrt(2).
    """
    texts, pairs = phrases.compounds(names.texts, count, random)
    offsets = names.vectors - mean
    joined = np.array([offsets[a] + offsets[b] for a, b in pairs], np.float32).reshape(-1, len(mean))
    return TextVectors(texts, unit(joined / 2**0.5 + mean))


def lessons_of_model(
    data: Path,
    config: DistillConfig,
    encode: Callable[[Sequence[str]], Floats],
    vocabulary: Sequence[str],
    texts: Sequence[str] = (),
) -> Lessons:
    """Lessons of a CLIP text model.

    Args:
        data: folder of gaze folders, whose training captions are taught; names come from
            ``clip_text`` where that is there, and are the words of COCO's classes and of the
            vocabulary where not.
        config: how many phrases to make.
        encode: vectors (n, d) of texts, L2-normalised.
        vocabulary: whole words of the tokenizer.
        texts: further texts to teach.
    """
    random = np.random.default_rng(config.seed)
    table = data / "clip_text" / "real_vit_b32.npz"
    names = (
        text_vectors.true_vectors(table.parent).texts
        if table.is_file()
        else [class_prompt(name) for name in dict.fromkeys((*COCO_CLASSES, *vocabulary))]
    )
    named = TrueTexts.of_names(TextVectors(names, encode(names)))
    held_out = text_vectors.held_out_things(named, config.held_out)
    known = named.where(~held_out).texts.texts
    captions = [*_captions(data), *texts]
    made = [*vocabulary, *captions, *_of_photos(data), *_phrases(known, vocabulary, captions, config, random)]
    made += [text_vectors.reworded(n, w) for n in known for w in (text_vectors.BARE, text_vectors.PHOTO)]
    made += phrases.compounds(known, config.compounds, random)[0]
    made = list(dict.fromkeys(made))
    keep = _allowed(made, named.where(~held_out), named.texts.where(held_out).texts, _unseen(data))
    kept = [text for text, allowed in zip(made, keep, strict=True) if allowed]
    return Lessons(named, held_out, TextVectors(kept, encode(kept)), np.ones(len(kept), np.float32))


def read_texts(path: Path) -> list[str]:
    """The texts of a file, one per line; empty lines are left out.

    Raises:
        DataError: the file cannot be read, or has no text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}): a UTF-8 file with one text per line was expected"
        ) from error
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise DataError(f"{path} holds no text: one text per line was expected")
    return texts


def with_attributes(texts: TextVectors, names: TextVectors, mean: Floats, length: float) -> TextVectors:
    """Add to each vector a direction for each attribute that its text states.

    Estimates from class names hardly tell left from right or two from three. The directions are
    the last principal components of the true names, along which names do not differ: so they
    change what is near what among names by nothing, and are easily read.
    """
    _, _, axes = np.linalg.svd(names.vectors - mean)
    # The very last one is along the mean: unit vectors lie on a sphere.
    count = min(len(phrases.ATTRIBUTES), len(axes) - 1)
    directions = axes[len(axes) - 1 - count : len(axes) - 1]
    vectors = texts.vectors.copy()
    for row, text in enumerate(texts.texts):
        stated = [n for n in phrases.attributes_of(text) if n < count]
        vectors[row] += length * directions[stated].sum(0)
    return TextVectors(texts.texts, unit(vectors))


def _phrases(
    names: Sequence[str],
    words: Sequence[str],
    captions: Sequence[str],
    config: DistillConfig,
    random: np.random.Generator,
) -> list[str]:
    """Phrases made of names, words and captions; a held-out name may be a part of one."""
    things = [text_vectors.bare_name(name) for name in names]
    readable = [word for word in words if re.fullmatch(r"[a-z]{3,}", word)]
    # Every word as often as any other, give or take one.
    chosen = np.resize(
        random.permutation(np.array(readable, np.str_)), config.described_words if readable else 0
    )
    return [
        *(phrases.spans(captions, config.spans, random) if captions else ()),
        *phrases.recombined(names, config.recombined, random),
        *phrases.described(random.choice(things, config.described), random),
        *phrases.described(chosen, random),
    ]


def _captions(data: Path) -> list[str]:
    found = [pair.text for folder in _gaze(data) for pair in folder.pairs if pair.split == "train"]
    return list(dict.fromkeys(text for text in found if text))


def _unseen(data: Path) -> set[str]:
    """Captions of validation and test photos."""
    return {pair.text for folder in _gaze(data) for pair in folder.pairs if pair.split != "train"}


def _of_photos(data: Path) -> list[str]:
    """Texts that name things in photos: those of training photos, from the tables in ``phrases``."""
    folder = data / "phrases"
    tables = [
        *sorted(folder.glob("labels.csv")),
        *sorted(path.parent for path in folder.glob("*/phrases.csv")),
    ]
    found = [
        text
        for table in tables
        for phrases_of_photo in PhraseSet(table, data).select("train").values()
        for text in wordings(phrases_of_photo)
    ]
    return list(dict.fromkeys(found))


def _gaze(data: Path) -> list[GazeFolder]:
    """Gaze folders with texts; those of free viewing alone are not opened."""
    return [GazeFolder(path.parent) for path in sorted(data.glob("*/pairs.csv")) if has_texts(path)]


def _allowed(
    texts: Sequence[str], known: TrueTexts, held_out: Sequence[str], unseen: set[str]
) -> npt.NDArray[np.bool_]:
    """Which texts may be taught: no held-out thing in any wording, no text of an unseen photo, no true text."""
    secret = {text_vectors.thing_key(name) for name in held_out}
    given = set(known.where(~known.in_wording(text_vectors.UNKNOWN)).texts.texts)
    return np.array(
        [
            text not in unseen and text not in given and text_vectors.thing_key(text) not in secret
            for text in texts
        ],
        bool,
    )


def _joined(first: TextVectors, second: TextVectors) -> TextVectors:
    return TextVectors(first.texts + second.texts, np.concatenate([first.vectors, second.vectors]))


def _strings(texts: Sequence[str]) -> npt.NDArray[np.str_]:
    return np.array(texts, dtype=np.str_)


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
