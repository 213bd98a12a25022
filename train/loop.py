"""Trains the `edge` generator on gaze data and object prompts."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from salgan_edge.train.checkpoint import Description, load_generator, save_generator
from salgan_edge.train.data.coco import COCO_CLASSES, class_prompt
from salgan_edge.train.data.gaze import GazeFolder
from salgan_edge.train.data.objects import Detector, detect_all
from salgan_edge.train.data.samples import TrainingSet
from salgan_edge.train.data.split import SPLIT_ID
from salgan_edge.train.data.text_vectors import estimated_captions, true_vectors
from salgan_edge.train.distill import encode_texts
from salgan_edge.train.ema import Average
from salgan_edge.train.losses import saliency_loss
from salgan_edge.train.networks.edge import DOMAINS, EdgeGenerator
from salgan_edge.train.run import Run
from salgan_edge.train.validate import Validation

from salgan_edge.errors import DataError
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from salgan_edge.train.config import TrainConfig

    Floats = npt.NDArray[np.float32]

__all__ = ["Sources", "train"]


@dataclass(frozen=True)
class Sources:
    """Where a training takes its parts from."""

    data: Path
    """Folder that holds ``sjtu_tis``, ``clip_text`` and, if there, ``osie`` and ``scene``."""
    text_encoder: Path
    """`transformers` folder with ``tokenizer.json``, the encoder that will be shipped."""
    backbone: Path | None = None
    """``yolox_nano_coco.onnx``: initial weights, and the detector for object prompts; None trains
    without object prompts and needs `start`."""
    start: Path | None = None
    """Checkpoint to fine-tune; None starts from the backbone's weights."""


def train(sources: Sources, output: Path, config: TrainConfig, *, resume: bool = False) -> dict[str, float]:
    """Train; the best epoch by validation CC is saved as ``output/generator.safetensors``.

    Args:
        sources: see `Sources`.
        output: folder of the run; log, state and result go there.
        config: see `TrainConfig`.
        resume: go on with the run in `output`.

    Returns:
        Validation scores of the saved epoch.

    Raises:
        DataError: a part of the data is missing.
        CheckpointError: `output` holds another run, or a checkpoint does not fit.
    """
    for path in (sources.data, sources.text_encoder, sources.backbone, sources.start):
        if path is not None and not path.exists():
            raise DataError(f"{path} does not exist: see the README's 'Training' for what is needed")
    run = Run(output, config, resume=resume)
    torch.manual_seed(config.seed)
    model = _start(sources, config)
    encode = _encoder(sources.text_encoder)
    folders = [GazeFolder(sources.data / name) for name in DOMAINS if (sources.data / name).exists()]
    resize = _resizer(model)
    run.log.info("reading %s", ", ".join(folder.name for folder in folders))
    data = _training_set(sources, folders, resize, encode, config, model.grid, output)
    validation = Validation(folders[0], resize, encode, model.grid)

    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = len(data.batches(np.random.default_rng(0)))
    optimizer, schedule = _optimizer(model, config, steps * config.epochs)
    average = Average(model, config.ema)
    first, best = 0, {"all": -1.0}
    state = run.load_state()
    if state is not None:
        model.load_state_dict(state["model"])
        average.load(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first, best = state["epoch"], state["best"]
    run.log.info("%d photos, %d steps per epoch", len(data.photos), steps)
    for epoch in range(first, config.epochs):
        started, losses = time.monotonic(), []
        # Seeded by the epoch, so that a resumed run draws and drops the same.
        random = np.random.default_rng([config.seed, epoch])
        torch.manual_seed(int(random.integers(2**31)))
        model.train()
        for chosen in data.batches(random):
            batch = data.batch(chosen, random)
            pixels = model.preprocess.normalise(batch.pixels.permute(0, 3, 1, 2).float())
            logits = model.logits(
                pixels.contiguous(memory_format=torch.channels_last), batch.text, batch.domain
            )
            loss = (saliency_loss(logits, batch.target) * batch.weight).sum() / batch.weight.sum()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update(model)
            losses.append(float(loss.detach()))
        scores = validation.score(average.model)
        run.log.info(
            "epoch %d/%d loss %.4f %s (%.0f s)", epoch + 1, config.epochs, float(np.mean(losses)),
            " ".join(f"{name} {value:.3f}" for name, value in scores.items()), time.monotonic() - started,
        )  # fmt: skip
        if scores["all"] > best["all"]:
            best = scores
            save_generator(
                average.model,
                _description(sources, folders, config, epoch + 1, best),
                output / "generator.safetensors",
            )
        run.save_state(
            model=model.state_dict(), average=average.state(), optimizer=optimizer.state_dict(),
            schedule=schedule.state_dict(), epoch=epoch + 1, best=best,
        )  # fmt: skip
    run.close()
    return best


def _start(sources: Sources, config: TrainConfig) -> EdgeGenerator:
    """The network to train: a checkpoint's, or a fresh one on the pretrained backbone."""
    if sources.start is not None:
        model, description = load_generator(sources.start, config.size)
        if not isinstance(model, EdgeGenerator):
            raise DataError(
                f"{sources.start} is of preset {description.preset}: only edge can be fine-tuned so far"
            )
        model.dropout.p = config.dropout
        return model
    if sources.backbone is None:
        raise DataError(
            "a new generator starts from yolox_nano_coco.onnx: give --backbone, or a checkpoint with --from"
        )
    model = EdgeGenerator(config.size, dropout=config.dropout)
    model.backbone.load_onnx(sources.backbone)
    true = true_vectors(sources.data / "clip_text")
    rows = dict(zip(true.texts, true.vectors, strict=True))
    classes = np.stack([rows[class_prompt(name)] for name in COCO_CLASSES])
    model.set_text_space(torch.from_numpy(classes), torch.from_numpy(true.vectors.mean(0)))
    return model


def _optimizer(
    model: EdgeGenerator, config: TrainConfig, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW with a rate of its own for the backbone, and a one-cycle schedule over all steps."""
    backbone = list(model.backbone.parameters())
    in_backbone = {id(parameter) for parameter in backbone}
    head = [parameter for parameter in model.parameters() if id(parameter) not in in_backbone]
    for parameter in backbone:
        parameter.requires_grad_(config.backbone_rate > 0)
    # The schedule divides by the rates, so that of a frozen backbone is not quite zero.
    rates = [max(config.learning_rate * config.backbone_rate, 1e-12), config.learning_rate]
    optimizer = torch.optim.AdamW(
        [{"params": backbone}, {"params": head}], lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, total_steps=steps + 1, pct_start=config.warmup
    )
    return optimizer, schedule


def _encoder(folder: Path) -> Callable[[Sequence[str]], Floats]:
    from transformers import CLIPTextModelWithProjection  # noqa: PLC0415 - slow to import

    text_model = CLIPTextModelWithProjection.from_pretrained(folder, dtype=torch.float32)
    tokenizer = ClipTokenizer(folder / "tokenizer.json")
    return lambda texts: encode_texts(text_model, tokenizer, texts)


def _resizer(model: EdgeGenerator) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]:
    def resize(photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        planes = model.preprocess.resize(torch.from_numpy(photo)[None])[0]
        return planes.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()

    return resize


def _training_set(
    sources: Sources,
    folders: list[GazeFolder],
    resize: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]],
    encode: Callable[[Sequence[str]], Floats],
    config: TrainConfig,
    grid: int,
    output: Path,
) -> TrainingSet:
    detections = {}
    if sources.backbone is not None:
        photos = {
            f"{folder.name}/{name}": folder.image(name)
            for folder in folders
            for name in sorted({pair.image for pair in folder.select("train")})
        }
        detections = detect_all(Detector(sources.backbone), photos, output / "objects.json")
    text = sources.data / "clip_text"
    return TrainingSet(
        folders, detections, resize, encode, true_vectors(text), estimated_captions(text), config, grid
    )


def _description(
    sources: Sources, folders: list[GazeFolder], config: TrainConfig, epoch: int, scores: dict[str, float]
) -> Description:
    return Description(
        preset="edge",
        arguments={"size": config.size},
        training={
            "data": [folder.name for folder in folders],
            "object_prompts": sources.backbone is not None,
            "split": SPLIT_ID,
            "started_from": (sources.start or sources.backbone or sources.data).name,
            "epoch": epoch,
            "config": dataclasses.asdict(config),
        },
        metrics={"split": "sjtu_tis validation, on the network's grid", "cc": scores},
    )
