"""Distils CLIP text vectors into a compact text encoder.

``salgan-edge distill --data ../shared/data``

The teacher is a table: true vectors of class names and estimated vectors of words and captions.
The student learns directions about the mean of the true vectors, because CLIP's text vectors
share a large common part (cosine about 0.75 between any two) that carries no meaning.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from salgan_edge.train.data import text_vectors
from salgan_edge.train.data.gaze import GazeFolder
from salgan_edge.train.networks.text_encoder import compact_text_encoder, embed, save_half
from salgan_edge.train.run import Run
from tokenizers import Tokenizer

from salgan_edge.files import writing
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt
    from salgan_edge.train.config import DistillConfig
    from salgan_edge.train.data.text_vectors import TextVectors
    from transformers import CLIPTextModelWithProjection

__all__ = ["Agreement", "agreement", "distill", "encode_texts"]

Agreement = dict[str, float]


@torch.inference_mode()
def encode_texts(
    model: CLIPTextModelWithProjection, tokenizer: ClipTokenizer, texts: Sequence[str]
) -> npt.NDArray[np.float32]:
    """Vectors (n, 512) of texts, L2-normalised."""
    model.eval()
    rows = []
    for start in range(0, len(texts), 256):
        ids = torch.from_numpy(tokenizer.batch(texts[start : start + 256]))
        # The padding repeats the end token; nothing after the first one reaches the output.
        length = int((ids != ids[0, -1]).sum(1).max()) + 1
        rows.append(embed(model, ids[:, :length]).numpy())
    return np.concatenate(rows)


def agreement(student: npt.NDArray[np.float32], names: TextVectors, of: npt.NDArray[np.bool_]) -> Agreement:
    """How well `student` (n, 512) fits the true vectors of the names chosen by `of`.

    Returns:
        ``cosine`` after centring both on the mean true vector, and ``recall_at_5``: the share of
        student vectors that have their own name among the five nearest of all true vectors.
    """
    mean = names.vectors.mean(0)
    table = _unit(names.vectors - mean)
    queries = _unit(student[of] - mean)
    similar = queries @ table.T
    own = similar[np.arange(len(queries)), np.flatnonzero(of)]
    rank = (similar > own[:, None]).sum(1)
    return {"cosine": float(own.mean()), "recall_at_5": float((rank < 5).mean())}


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    unit: npt.NDArray[np.float32] = vectors / np.maximum(
        np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-8
    )
    return unit


class _Texts:
    """The training texts: true names shown often and in variants, words, captions."""

    def __init__(self, data: Path, tokenizer_file: Path, config: DistillConfig) -> None:
        self.names = text_vectors.true_vectors(data / "clip_text")
        self.held_out = text_vectors.held_out(self.names, config.held_out)
        gaze = GazeFolder(data / "sjtu_tis")
        unseen = {pair.text for pair in gaze.pairs if pair.split != "train"}
        secret = {
            t for name in self.names.where(self.held_out).texts for t in text_vectors.name_variants(name)
        }
        names = self.names.where(~self.held_out)
        words = text_vectors.estimated_words(data / "clip_text")
        words = words.where(np.array([word not in secret for word in words.texts]))
        captions = text_vectors.estimated_captions(data / "clip_text", without=unseen)
        self.texts = names.texts + words.texts + captions.texts
        self.targets = np.concatenate([names.vectors, words.vectors, captions.vectors])
        self.first_word, self.words = len(names), words
        self.variants = [text_vectors.name_variants(text) for text in names.texts]
        self.order = np.concatenate(
            [np.repeat(np.arange(len(names)), config.name_repeats), np.arange(len(names), len(self.texts))]
        )
        self._plain = Tokenizer.from_file(str(tokenizer_file))
        self._split = Tokenizer.from_file(str(tokenizer_file))
        self._split.model.dropout = config.bpe_dropout
        for tokenizer in (self._plain, self._split):
            tokenizer.enable_padding(pad_id=tokenizer.get_vocab_size() - 1, pad_token="<|endoftext|>")  # noqa: S106
            tokenizer.enable_truncation(77)
        self._lengths = np.array(
            [sum(encoding.attention_mask) for encoding in self._plain.encode_batch(self.texts)]
        )

    def batches(self, steps: int, random: np.random.Generator) -> list[npt.NDArray[np.int64]]:
        """One epoch in random order, texts of like length together: padding costs as much as text."""
        order = random.permutation(self.order)
        order = order[np.argsort(self._lengths[order], kind="stable")]
        batches = np.array_split(order, steps)
        return [batches[n] for n in random.permutation(steps)]

    def batch(
        self, chosen: npt.NDArray[np.int64], random: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids (n, L) and teacher vectors (n, 512) of the chosen texts."""
        texts = [
            str(random.choice(self.variants[i])) if i < len(self.variants) else self.texts[i] for i in chosen
        ]
        tokenizer = self._split if random.random() < 0.5 else self._plain
        ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        return torch.tensor(ids), torch.from_numpy(self.targets[chosen])


def _initialise(model: CLIPTextModelWithProjection, texts: _Texts, tokenizer: ClipTokenizer) -> None:
    """Start word tokens at the principal components of their vectors, and the output at the mean."""
    width = model.config.hidden_size
    centred = texts.words.vectors - texts.words.vectors.mean(0)
    _, _, axes = np.linalg.svd(centred[:8000], full_matrices=False)
    low = centred @ axes[:width].T
    low *= 0.5 / low.std()
    table = model.text_model.embeddings.token_embedding.weight
    ids = tokenizer.batch(texts.words.texts)
    single = ids[:, 2] == ids[0, -1]
    with torch.no_grad():
        table.normal_(std=0.1)
        table[torch.from_numpy(ids[single, 1])] = torch.from_numpy(low[single])
        model.text_projection.weight.copy_(torch.from_numpy(axes[:width].T * 0.1))


def distill(
    data: Path, output: Path, tokenizer_file: Path, config: DistillConfig, *, resume: bool = False
) -> Agreement:
    """Train the text encoder; the result is a `transformers` folder in ``output/text_encoder``.

    Args:
        data: folder that holds ``clip_text`` and ``sjtu_tis``.
        output: folder of the run; log, state and result go there.
        tokenizer_file: CLIP's ``tokenizer.json``.
        config: see `DistillConfig`.
        resume: go on with the run in `output`.

    Returns:
        Agreement with the held-out true vectors.

    Raises:
        DataError: a part of the data is missing.
        CheckpointError: `output` holds another run.
    """
    run = Run(output, config, resume=resume)
    torch.manual_seed(config.seed)
    texts = _Texts(data, tokenizer_file, config)
    tokenizer = ClipTokenizer(tokenizer_file)
    model = compact_text_encoder(config.width, config.layers, config.heads)
    _initialise(model, texts, tokenizer)
    mean = torch.from_numpy(texts.names.vectors.mean(0))
    steps = -(-len(texts.order) // config.batch_size)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=steps * config.epochs + 1, pct_start=0.1
    )
    first = 0
    state = run.load_state()
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first = state["epoch"]
    scores: Agreement = {}
    for epoch in range(first, config.epochs):
        started, losses = time.monotonic(), []
        # Seeded by the epoch, so that a resumed run sees the same order.
        random = np.random.default_rng([config.seed, epoch])
        model.train()
        for chosen in texts.batches(steps, random):
            ids, target = texts.batch(chosen, random)
            vector = embed(model, ids)
            direction = 1 - torch.nn.functional.cosine_similarity(vector - mean, target - mean).mean()
            absolute = 1 - torch.nn.functional.cosine_similarity(vector, target).mean()
            loss = direction + absolute
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        student = encode_texts(model, tokenizer, texts.names.texts)
        scores = agreement(student, texts.names, texts.held_out)
        known = agreement(student, texts.names, ~texts.held_out)
        run.log.info(
            "epoch %d/%d loss %.4f held-out cosine %.3f recall@5 %.3f trained cosine %.3f recall@5 %.3f (%.0f s)",
            epoch + 1, config.epochs, float(np.mean(losses)), scores["cosine"], scores["recall_at_5"],
            known["cosine"], known["recall_at_5"], time.monotonic() - started,
        )  # fmt: skip
        run.save_state(
            model=model.state_dict(),
            optimizer=optimizer.state_dict(),
            schedule=schedule.state_dict(),
            epoch=epoch + 1,
        )
    save_half(model, output / "text_encoder")
    with writing(output / "text_encoder" / "tokenizer.json") as temporary:
        temporary.write_bytes(tokenizer_file.read_bytes())
    run.close()
    return scores
