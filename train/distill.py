"""Distils CLIP text vectors into a compact text encoder.

``salgan-edge distill --data ../shared/data``

The student learns directions about the mean of the true vectors, because CLIP's text vectors
share a large common part (cosine about 0.75 between any two) that carries no meaning.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from salgan_edge.train.data.lessons import (
    DistillTexts,
    Lessons,
    lessons_of_model,
    precomputed_lessons,
    read_texts,
)
from salgan_edge.train.data.text_teachers import ClipTeacher, SentenceTeacher, sentence_features
from salgan_edge.train.data.text_vectors import unit
from salgan_edge.train.networks.text_encoder import (
    compact_text_encoder,
    embed,
    encode_texts,
    save_text_encoder,
)
from salgan_edge.train.run import Average, Display, Run

from salgan_edge.files import writing
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from salgan_edge.train.config import DistillConfig
    from salgan_edge.train.data.text_vectors import TextVectors
    from torch import Tensor
    from transformers import CLIPTextModelWithProjection

    Floats = npt.NDArray[np.float32]

__all__ = ["Agreement", "Teaching", "agreement", "distill", "distillation_loss"]

Agreement = dict[str, float]


def agreement(
    student: Floats, names: TextVectors, of: npt.NDArray[np.bool_], *, mean: Floats | None = None
) -> Agreement:
    """How well `student` (n, d) fits the true vectors of the names chosen by `of`.

    Args:
        student: vectors of all names.
        names: the table to find each name in, with its true vectors (n, d).
        of: which names to measure (n,).
        mean: vector (d,) to centre on; the mean true vector if not given.

    Returns:
        ``cosine`` after centring both on `mean`, and ``recall_at_1`` and
        ``recall_at_5``: the share of student vectors that have their own name as the nearest, or
        among the five nearest, of all true vectors. Nothing where `of` chooses no name.
    """
    if not of.any():
        return {}
    if mean is None:
        mean = names.vectors.mean(0)
    table = unit(names.vectors - mean)
    queries = unit(student[of] - mean)
    similar = queries @ table.T
    own = similar[np.arange(len(queries)), np.flatnonzero(of)]
    rank = (similar > own[:, None]).sum(1)
    return {
        "cosine": float(own.mean()),
        "recall_at_1": float((rank < 1).mean()),
        "recall_at_5": float((rank < 5).mean()),
    }


def _initialise(model: CLIPTextModelWithProjection, texts: DistillTexts) -> None:
    """Start tokens of whole words at the principal components of the words' vectors.

    The output starts so that it leads back from these components.
    """
    ids, vectors = texts.single_tokens()
    centred = vectors - vectors.mean(0)
    _, _, axes = np.linalg.svd(centred[:8000], full_matrices=False)
    low = centred @ axes[: model.config.hidden_size].T
    low *= 0.5 / low.std()
    table = model.text_model.embeddings.token_embedding.weight
    with torch.no_grad():
        table.normal_(std=0.1)
        table[torch.from_numpy(ids), : low.shape[1]] = torch.from_numpy(low)
        axes = axes[: low.shape[1]]
        model.text_projection.weight[:, : low.shape[1]] = torch.from_numpy(axes.T * 0.1)


def distillation_loss(
    vectors: Tensor, targets: Tensor, weights: Tensor, mean: Tensor, *, contrast: float, temperature: float
) -> Tensor:
    """Loss of student vectors (n, d) against teacher vectors (n, d), both L2-normalised.

    One minus the cosine about `mean` (d,), plus one minus the plain cosine, plus `contrast` times
    the Kullback-Leibler divergence between how teacher and student choose among the batch's
    teacher vectors: ``softmax(cosine / temperature)``. Two texts that the teacher holds for alike
    thus do not repel each other, as they would with InfoNCE (van den Oord et al. 2018).

    Args:
        vectors: the student's.
        targets: the teacher's.
        weights: of each text (n,).
        mean: of the true vectors.
        contrast: weight of the third term.
        temperature: of its softmax.
    """
    student, teacher = (torch.nn.functional.normalize(v - mean, dim=-1) for v in (vectors, targets))
    loss = (1 - (student * teacher).sum(-1)) + (1 - torch.nn.functional.cosine_similarity(vectors, targets))
    if contrast:
        wanted = torch.log_softmax(teacher @ teacher.T / temperature, -1)
        found = torch.log_softmax(student @ teacher.T / temperature, -1)
        loss = loss + contrast * (wanted.exp() * (wanted - found)).sum(-1)
    return (weights * loss).sum() / weights.sum()


@dataclass(frozen=True)
class Teaching:
    """Where the lessons come from."""

    data: Path
    """Folder that holds ``clip_text``, gaze folders such as ``sjtu_tis``, and ``phrases`` if there."""
    tokenizer: Path
    """CLIP's ``tokenizer.json``; a CLIP text model as teacher brings its own."""
    texts: Path | None = None
    """File of further texts to learn, one per line."""


def distill(teaching: Teaching, output: Path, config: DistillConfig, *, resume: bool = False) -> Agreement:
    """Train the text encoder; the result is a `transformers` folder in ``output/text_encoder``.

    Args:
        teaching: see `Teaching`.
        output: folder of the run; the teacher's vectors, log, state and result go there.
        config: see `DistillConfig`.
        resume: go on with the run in `output`.

    Returns:
        Agreement with the held-out vectors, of the encoder as it was saved; nothing if none are held out.

    Raises:
        DataError: a part of the data is missing.
        ExportError: the teacher is no CLIP text model that can be had.
        CheckpointError: `output` holds another run.
    """
    run = Run(output, config, resume=resume)
    try:
        return _distill(run, teaching, config)
    finally:
        run.close()


def _distill(run: Run, teaching: Teaching, config: DistillConfig) -> Agreement:
    torch.manual_seed(config.seed)
    state = run.load_state()
    lessons, tokenizer_file = _lessons(run, teaching, config, kept=state is not None)
    texts = DistillTexts(lessons, tokenizer_file, config)
    tokenizer = ClipTokenizer(tokenizer_file)
    model = compact_text_encoder(
        config.width, config.layers, config.heads,
        vocabulary=tokenizer.end + 1, dimension=lessons.mean.shape[0],
    )  # fmt: skip
    _initialise(model, texts)
    average = Average(model, config.ema)
    mean = torch.from_numpy(lessons.mean)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=texts.steps * config.epochs + 1, pct_start=0.1
    )
    first = 0
    if state is not None:
        model.load_state_dict(state["model"])
        average.load(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first = state["epoch"]
    with Display(config.epochs, texts.steps, first * texts.steps, shown=True) as display:
        for epoch in range(first, config.epochs):
            started, losses = time.monotonic(), []
            # Seeded by the epoch, so that a resumed run sees the same order.
            random = np.random.default_rng([config.seed, epoch])
            model.train()
            for chosen in texts.batches(random):
                ids, target, weight = texts.batch(chosen, random)
                with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
                    vectors = embed(model, ids).float()
                loss = distillation_loss(
                    vectors, target, weight, mean, contrast=config.contrast, temperature=config.temperature
                )
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                average.update(model)
                losses.append(float(loss.detach()))
                display.step(epoch, {"loss": losses[-1]})
            run.log.info(
                "epoch %d/%d loss %.4f %s (%.0f s)",
                epoch + 1, config.epochs, float(np.mean(losses)),
                _text(_measured(average.model, tokenizer, lessons)), time.monotonic() - started,
            )  # fmt: skip
            run.save_state(
                model=model.state_dict(),
                average=average.state(),
                optimizer=optimizer.state_dict(),
                schedule=schedule.state_dict(),
                epoch=epoch + 1,
            )
    save_text_encoder(average.model, run.folder / "text_encoder")
    with writing(run.folder / "text_encoder" / "tokenizer.json") as temporary:
        temporary.write_bytes(tokenizer_file.read_bytes())
    measured = _measured(average.model, tokenizer, lessons)
    run.log.info("saved: %s", _text(measured))
    return measured.get("names, held out", {})


def _lessons(run: Run, teaching: Teaching, config: DistillConfig, *, kept: bool) -> tuple[Lessons, Path]:
    """The lessons and the tokenizer: those `kept` in the run's folder, or new ones."""
    lessons_file = run.folder / "lessons.npz"
    tokenizer_file = teaching.tokenizer
    if config.teacher != "precomputed":
        tokenizer_file = run.folder / "teacher_tokenizer.json"
    if not kept:
        further = read_texts(teaching.texts) if teaching.texts else []
        if config.teacher == "precomputed":
            sentences = _sentence_teacher(config) if config.sentence_model else None
            lessons = precomputed_lessons(teaching.data, config, sentences, further)
        else:
            teacher = ClipTeacher(
                config.teacher, run.folder, lambda done, of: run.log.info("teacher: %d of %d texts", done, of)
            )
            lessons = lessons_of_model(teaching.data, config, teacher.encode, teacher.vocabulary(), further)
            tokenizer_file = teacher.tokenizer_file
        lessons.save(lessons_file)
    # Read in either case, so that a resumed run has the same rounded vectors.
    return Lessons.load(lessons_file), tokenizer_file


def _sentence_teacher(config: DistillConfig) -> Callable[[TextVectors, Floats], SentenceTeacher]:
    features = sentence_features(Path(config.sentence_model), bfloat16=config.bfloat16)
    return lambda names, weights: SentenceTeacher(names, features, weights)


def _measured(
    model: CLIPTextModelWithProjection, tokenizer: ClipTokenizer, lessons: Lessons
) -> dict[str, Agreement]:
    """Agreement on held-out and on trained names, of each table among its own names."""
    scores = {}
    for table in ("names", "imagenet"):
        of = lessons.true.of_table(table)
        if of.any():
            names, held_out = lessons.true.texts.where(of), lessons.held_out[of]
            student = encode_texts(model, tokenizer, names.texts)
            for part, chosen in (("held out", held_out), ("trained", ~held_out)):
                scores[f"{table}, {part}"] = agreement(student, names, chosen, mean=lessons.mean)
    return {part: score for part, score in scores.items() if score}


def _text(scores: dict[str, Agreement]) -> str:
    return "; ".join(
        f"{part}: " + ", ".join(f"{name} {value:.3f}" for name, value in score.items())
        for part, score in scores.items()
    )
