"""Teachers of the text encoder: CLIP vectors of any text, estimated or computed.

A *sentence model* (all-MiniLM-L6-v2 and its like: a small BERT with mean pooling) knows which texts
mean like things; true CLIP vectors of class names anchor that knowledge in CLIP's space, by kernel
ridge regression. Of 138 names that it was not fitted on, the estimate finds 94 % within the nearest
five of 1,585, at a centred cosine of 0.61; of 83 of ImageNet's names 83 % of 1,000, at 0.60 (MiniLM).
The regression knows one wording, "a X"; `WordingSteps` lead from there to the others and back.

A *CLIP text model* gives its vectors of any text, computed in batches and kept in a file.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from salgan_edge.train.data.text_vectors import (
    BARE,
    NAME,
    PHOTO,
    TextVectors,
    bare_name,
    reworded,
    thing_key,
    unit,
)
from salgan_edge.train.networks.text_encoder import encode_texts, load_text_encoder, write_tokenizer
from tokenizers import Tokenizer

from salgan_edge.errors import DataError
from salgan_edge.files import writing
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from salgan_edge.train.data.text_vectors import TrueTexts

    Floats = npt.NDArray[np.float32]

__all__ = ["ClipTeacher", "SentenceTeacher", "WordingSteps", "sentence_features"]

_LAYERS = 4
"""Hidden states that are read, evenly from the word embedding to the last."""
_GAMMA = 1.0
"""Width of the radial basis function on squared distances of unit features."""
_SPELLING = 0.4
"""Share of the kernel that compares spelling, in n-grams of 2 to 5 letters."""
_RIDGE = 0.15
_STEP_RIDGE = 1.0
"""Ridge of a wording's step, in units of the pairs' mean squared length: 0.3 to 3 do as well."""
_LEAST_PAIRS = 10
"""Pairs below which a wording's step is not learnt."""
_BATCH = 256


def sentence_features(folder: Path, *, bfloat16: bool = False) -> Callable[[Sequence[str]], Floats]:
    """A function from texts to features (n, layers, width): mean-pooled hidden states.

    Args:
        folder: of a model and its tokenizer as `transformers` saves them.
        bfloat16: multiply matrices in bfloat16.

    Raises:
        DataError: no model and tokenizer of `transformers` in the folder.
    """
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415 - slow to import

    try:
        model: Any = AutoModel.from_pretrained(str(folder), local_files_only=True).eval()
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the readers raise families of their own
        raise DataError(
            f"{folder} holds no sentence model: a transformers folder such as all-MiniLM-L6-v2 was expected"
        ) from error
    chosen = np.linspace(0, model.config.num_hidden_layers, _LAYERS).round().astype(int)

    @torch.inference_mode()
    def features(texts: Sequence[str]) -> Floats:
        order = np.argsort([len(text) for text in texts], kind="stable")
        out = np.zeros((len(texts), len(chosen), model.config.hidden_size), np.float32)
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            words = tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True, max_length=96, return_tensors="pt"
            )
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                states = model(**words, output_hidden_states=True).hidden_states
            mask = words["attention_mask"][..., None].float()
            pooled = [(states[layer].float() * mask).sum(1) / mask.sum(1) for layer in chosen]
            out[rows] = torch.stack(pooled, 1).numpy()
        return out

    return features


class SentenceTeacher:
    """Kernel ridge regression from texts to CLIP vectors.

    The kernel is a radial basis function on the sentence features, centred on the names and of unit
    length in each layer, plus the cosine of spelling.

    Args:
        names: texts with their true vectors, to fit on.
        features: see `sentence_features`.
        weights: how far each vector is to be trusted (n,), above 0 to 1: its ridge is divided by that.
    """

    def __init__(
        self,
        names: TextVectors,
        features: Callable[[Sequence[str]], Floats],
        weights: Floats | None = None,
    ) -> None:
        self._features = features
        texts = [bare_name(text) for text in names.texts]
        self.mean = names.vectors.mean(0)
        raw = features(texts)
        self._centre = raw.mean(0)
        self._sentences = self._normalised(raw)
        counts = Counter(gram for text in texts for gram in _grams(text))
        self._column = {gram: column for column, gram in enumerate(counts)}
        self._weight = np.log(len(texts) / np.array(list(counts.values()), np.float32))
        self._rare = float(np.log(len(texts)))
        # Row per n-gram, column per name, each column of unit length.
        self._spelling = np.zeros((len(counts), len(texts)), np.float32)
        for row, text in enumerate(texts):
            known = [self._column[gram] for gram in _grams(text)]
            self._spelling[known, row] = self._weight[known]
        self._spelling /= np.linalg.norm(self._spelling, axis=0)
        kernel = self._kernel(self._sentences, texts)
        targets = names.vectors - self.mean
        ridge = np.diag(_RIDGE / (np.ones(len(texts)) if weights is None else weights))
        self._solution = np.linalg.solve(kernel + ridge, targets).astype(np.float32)
        self._typical = float(np.linalg.norm(kernel @ self._solution, axis=1).mean())
        """Mean length of the estimates of the names about the mean vector."""

    def estimate(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Estimated vectors (n, d) of unit length, and how sure each is (n,), from 0 to 1.

        Sureness is the length of the estimate about the mean vector, as a share of the true names'
        mean length: what is unlike every name is drawn to the mean.
        """
        offsets = []
        for start in range(0, len(texts), 2048):
            part = [bare_name(text) for text in texts[start : start + 2048]]
            offsets.append(self._kernel(self._normalised(self._features(part)), part) @ self._solution)
        offset = np.concatenate(offsets)
        length = np.linalg.norm(offset, axis=1)
        # Only the direction about the mean is kept; the names' estimates lie about this far from it.
        vectors = offset / np.maximum(length[:, None], 1e-6) * self._typical + self.mean
        return (
            (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
            np.clip(length / self._typical, 0, 1).astype(np.float32),
        )

    def _kernel(self, sentences: Floats, texts: Sequence[str]) -> Floats:
        meaning = np.exp(-_GAMMA * (2 - 2 * sentences @ self._sentences.T))
        kernel: Floats = (1 - _SPELLING) * meaning + _SPELLING * self._spell(texts)
        return kernel

    def _normalised(self, raw: Floats) -> Floats:
        directions = unit(raw - self._centre)
        flat: Floats = directions.reshape(len(raw), -1) / raw.shape[1] ** 0.5
        return flat

    def _spell(self, texts: Sequence[str]) -> Floats:
        """Cosine (n, names) of the texts' letter n-grams, weighted by rarity, with those of the names."""
        similar = np.zeros((len(texts), self._spelling.shape[1]), np.float32)
        for row, text in enumerate(texts):
            grams = _grams(text)
            known = [self._column[gram] for gram in grams if gram in self._column]
            weight = self._weight[known]
            # An n-gram of no name counts in the length alone, as the rarest.
            length = np.sqrt((weight**2).sum() + (len(grams) - len(known)) * self._rare**2)
            similar[row] = weight @ self._spelling[known] / max(float(length), 1e-8)
        return similar


class WordingSteps:
    """How CLIP's vector of a thing changes with the wording, learnt from things known in two wordings.

    From vectors x of one wording to y of another: ``y - mean(y) = (x - mean(x)) (1 + W)``, with W by
    ridge regression, so that few pairs give little more than the step between the means. A wording
    with fewer than ten pairs has none, and vectors stay as they are.

    Args:
        true: texts to learn from, some of them in the wording "a X".
    """

    def __init__(self, true: TrueTexts) -> None:
        self._named = _by_thing(true, NAME)
        self._from_name: dict[str, _Step] = {}
        self._to_name: dict[str, _Step] = {}
        for wording in dict.fromkeys(true.wordings):
            other = _by_thing(true, wording)
            both = [key for key in other if key in self._named]
            if wording == NAME or len(both) < _LEAST_PAIRS:
                continue
            names, others = (np.array([table[key] for key in both]) for table in (self._named, other))
            self._from_name[wording] = _Step(names, others)
            self._to_name[wording] = _Step(others, names)

    def reworded(self, vectors: Floats, wordings: Sequence[str]) -> Floats:
        """Vectors (n, d) of texts "a X", each led to its wording, of unit length."""
        moved = vectors.copy()
        for wording, step in self._from_name.items():
            rows = np.array([w == wording for w in wordings], bool)
            moved[rows] = step(vectors[rows])
        return moved

    def as_names(self, true: TrueTexts) -> tuple[TextVectors, Floats]:
        """All things of `true` once, as "a X" with its vector, and their weights (n,).

        The vector is the mean of those of the wording "a X" where there are any; otherwise the mean of
        the other wordings' vectors, led back. Weights count in the means; the greatest is given. What
        has no step back is left out.
        """
        found: dict[str, tuple[str, dict[bool, list[tuple[Floats, float]]]]] = {}
        for text, wording, vector, weight in zip(
            true.texts.texts, true.wordings, self._led_back(true), true.weights, strict=True
        ):
            if wording == NAME or wording in self._to_name:
                named = text if wording == NAME else reworded(text, NAME)
                entry = found.setdefault(thing_key(text), (named, {True: [], False: []}))
                entry[1][wording == NAME].append((vector, float(weight)))
        texts, vectors, weights = [], [], []
        for text, kinds in found.values():
            chosen = kinds[True] or kinds[False]
            total = np.sum([vector * weight for vector, weight in chosen], 0)
            texts.append(text)
            vectors.append(total / max(float(np.linalg.norm(total)), 1e-8))
            weights.append(max(weight for _, weight in chosen))
        return TextVectors(texts, np.array(vectors, np.float32)), np.array(weights, np.float32)

    def missing(self, true: TrueTexts) -> tuple[TextVectors, Floats]:
        """Things of `true` in the wordings "X", "a X" and "a photo of a X" that they lack, by the steps.

        Only bare phrases stay as they are: "melancholic" takes no article.

        Returns:
            The texts with their vectors, and the weight (n,) that `as_names` gives the thing.
        """
        named, known = self.as_names(true.where(~true.in_wording(BARE)))
        present = {(w, thing_key(t)) for w, t in zip(true.wordings, true.texts.texts, strict=True)}
        texts, wordings, rows = [], [], []
        for wording in (NAME, BARE, PHOTO):
            for row, text in enumerate(named.texts):
                if (wording, thing_key(text)) not in present:
                    texts.append(reworded(text, wording))
                    wordings.append(wording)
                    rows.append(row)
        return TextVectors(texts, self.reworded(named.vectors[rows], wordings)), known[rows]

    def _led_back(self, true: TrueTexts) -> Floats:
        vectors = true.texts.vectors.copy()
        for wording, step in self._to_name.items():
            rows = true.in_wording(wording)
            vectors[rows] = step(vectors[rows])
        return vectors


class _Step:
    """Ridge regression from vectors (n, d) to vectors (n, d) of other wording, drawn to the mean step."""

    def __init__(self, origin: Floats, target: Floats) -> None:
        self._from, self._to = origin.mean(0), target.mean(0)
        self._pairs = origin - self._from
        gram = self._pairs @ self._pairs.T
        ridge = _STEP_RIDGE * max(float(np.trace(gram)) / len(gram), 1e-8)
        self._solution = np.linalg.solve(
            gram + ridge * np.eye(len(gram)), target - self._to - self._pairs
        ).astype(np.float32)

    def __call__(self, vectors: Floats) -> Floats:
        offset = vectors - self._from
        moved = offset + offset @ self._pairs.T @ self._solution + self._to
        return unit(moved)


def _by_thing(true: TrueTexts, wording: str) -> dict[str, Floats]:
    """The first vector of each thing in a wording."""
    table: dict[str, Floats] = {}
    for row in np.flatnonzero(true.in_wording(wording)):
        table.setdefault(thing_key(true.texts.texts[row]), true.texts.vectors[row])
    return table


def _grams(text: str) -> set[str]:
    padded = f" {text.lower()} "
    return {padded[i : i + n] for n in range(2, 6) for i in range(len(padded) - n + 1)}


_PART = 2048
"""Texts between two savings of the file."""
_CLIP_BATCH = 64


class ClipTeacher:
    """Vectors of texts by a CLIP text model.

    Args:
        source: hub id or folder of the model.
        folder: where its tokenizer and the vectors are kept; vectors that are there from an
            interrupted computation are not computed again.
        report: told how many of how many texts are done.

    Raises:
        ExportError: no such model, or none of CLIP's class.
        DataError: the folder has vectors of another teacher.
    """

    def __init__(self, source: str, folder: Path, report: Callable[[int, int], None]) -> None:
        self.tokenizer_file = folder / "teacher_tokenizer.json"
        self._model = load_text_encoder(source, None, option="--teacher")
        with writing(self.tokenizer_file) as temporary:
            write_tokenizer(source, temporary, self._model, option="--teacher")
        self._tokenizer = ClipTokenizer(self.tokenizer_file)
        self._file = folder / "teacher.npz"
        self._source = source
        self._report = report
        self._known: dict[str, npt.NDArray[np.float16]] = {}
        if self._file.exists():
            with np.load(self._file) as file:
                if str(file["source"]) != source:
                    raise DataError(
                        f"{self._file} has the vectors of {file['source']}, not of {source}: choose another --output"
                    )
                self._known = dict(zip(file["texts"].tolist(), file["vectors"], strict=True))

    def vocabulary(self) -> list[str]:
        """The whole words of the tokenizer: entries of two or more letters that end a word."""
        entries = Tokenizer.from_file(str(self.tokenizer_file)).get_vocab()
        words = (entry.removesuffix("</w>") for entry in entries if entry.endswith("</w>"))
        return sorted(word for word in words if re.fullmatch(r"[a-z]{2,}", word))

    def encode(self, texts: Sequence[str]) -> Floats:
        """Vectors (n, d) of texts, L2-normalised; rounded to float16, as they are kept."""
        missing = sorted({text for text in texts if text not in self._known}, key=len)
        for start in range(0, len(missing), _PART):
            self._report(start, len(missing))
            part = missing[start : start + _PART]
            vectors = encode_texts(self._model, self._tokenizer, part, batch=_CLIP_BATCH).astype(np.float16)
            self._known.update(zip(part, vectors, strict=True))
            self._save()
        table = np.stack([self._known[text] for text in texts]).astype(np.float32)
        table /= np.linalg.norm(table, axis=1, keepdims=True)
        return table

    def _save(self) -> None:
        with writing(self._file) as temporary:
            np.savez(
                temporary, source=np.array(self._source), texts=np.array(list(self._known), np.str_),
                vectors=np.stack(list(self._known.values())),
            )  # fmt: skip
