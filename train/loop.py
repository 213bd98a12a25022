"""The SalGAN loop: trains a generator, with or without a discriminator, on human gaze.

Read from top to bottom: `train` starts one or several processes, `_train` is the loop over epochs,
`_epoch` over steps; one step of generator and discriminator is `gan.train_step`.

Every random draw is seeded by its place (seed, epoch, step, photo), never by what was drawn
before. So an interrupted training goes on exactly where it stopped, in the middle of an epoch too;
several processes draw what one would; and batches can be made ahead in a thread.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from salgan_edge.train.checkpoint import save_generator
from salgan_edge.train.data.samples import Batch
from salgan_edge.train.gan import Gan, make_discriminator, summed, train_step
from salgan_edge.train.networks.text_encoder import make_encoder
from salgan_edge.train.pretrain import make_generator
from salgan_edge.train.run import Average, Display, Run, StopRequest, TrainingInterrupted, check_folder
from salgan_edge.train.setup import Parts, Sources, check_sources, describe, load_data
from salgan_edge.train.validate import POINTING
from tensorboardX import SummaryWriter
from torch.multiprocessing.spawn import ProcessException

from salgan_edge.errors import DeviceError, SalganEdgeError
from salgan_edge.files import writing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from salgan_edge.train.config import TrainConfig
    from salgan_edge.train.data.samples import PairSet, TrainingSet
    from salgan_edge.train.networks.generator import Generator
    from torch import Tensor

__all__ = ["History", "Sources", "TrainingInterrupted", "plot_curves", "train"]


def train(
    sources: Sources,
    output: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    accelerator: str = "auto",
    devices: int = 1,
    save_every: float | None = None,
) -> dict[str, float]:
    """Train; the result is ``output/generator.safetensors``.

    That is the best epoch by validation (CC, and pointing where there are texts with boxes), or the last one where the configuration fits
    ``train+validation``. ``output/last.safetensors`` is the last epoch in any case.

    Args:
        sources: see `Sources`.
        output: folder of the run; log, curves, state and result go there.
        config: see `TrainConfig`.
        resume: go on with the run in `output`.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        devices: processes, each with a GPU of its own (or a share of the CPU). A batch is divided
            among them, so their number changes nothing but the time (batch normalisation, in the
            paper's network, excepted: it sees each share by itself).
        save_every: minutes between saved states within an epoch; at its end there always is one.

    Returns:
        Validation CC of the result by condition, and ``guide``; empty without validation.

    Raises:
        DataError: a part of the data is missing.
        CheckpointError: `output` holds another run, or a checkpoint does not fit.
        DeviceError: there is no such accelerator, or not so many.
        TrainingInterrupted: by Ctrl-C; the state is saved.
    """
    check_sources(sources, config)
    check_folder(output, config, resume=resume)
    # Fabric's own lines about ranks and precision say nothing that the log does not.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            strategy="ddp_spawn" if devices > 1 else "auto",
            precision=config.precision,
        )
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise DeviceError(
            f"{devices} x {accelerator} cannot be used: {error}; choose another --accelerator or --devices"
        ) from error
    # Bound beforehand: Fabric looks into arguments for tensors and stumbles over frozen dataclasses.
    work = partial(
        _train, sources=sources, output=output, config=config, resume=resume, save_every=save_every
    )
    if devices == 1:
        scores = fabric.launch(work)
    else:
        try:
            with StopRequest(forward=True):
                scores = fabric.launch(work)
        except ProcessException as error:
            reason = str(error).strip().splitlines()[-1]
            raise SalganEdgeError(f"a training process failed: {reason}; see {output}/train.log") from error
    if scores is None:
        raise TrainingInterrupted
    return dict(scores)


@dataclass
class _Standing:
    """Where a training stands; all numbers that a resumed one needs."""

    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Finished steps of the next one."""
    totals: dict[str, float] = field(default_factory=dict)
    """Losses of those steps, summed."""
    best: dict[str, float] = field(default_factory=dict)
    """Validation scores of the best epoch."""


@dataclass
class _Training:
    """All that the loop works on."""

    fabric: Fabric
    config: TrainConfig
    sources: Sources
    parts: Parts
    gan: Gan
    average: Average[Generator]
    run: Run
    standing: _Standing
    save_every: float
    """Seconds between saved states."""
    saved: float = field(default_factory=time.monotonic)
    """When the last state was saved."""

    def save(self) -> None:
        """Save the state."""
        self.run.save_state(
            gan=self.gan.state(), average=self.average.state(), standing=dataclasses.asdict(self.standing)
        )
        self.saved = time.monotonic()


def _train(
    fabric: Fabric,
    *,
    sources: Sources,
    output: Path,
    config: TrainConfig,
    resume: bool,
    save_every: float | None,
) -> dict[str, float] | None:
    """What each process does; the scores of the result, or None when interrupted."""
    run = Run(output, config, resume=resume, writes=fabric.is_global_zero)
    state = run.load_state()
    torch.manual_seed(config.seed)
    encode = make_encoder(sources.text_encoder)
    generator = make_generator(sources, config, encode, pretrain=state is None)
    discriminator = make_discriminator(generator, config)
    run.log.info("reading %s", sources.data)
    with fabric.rank_zero_first():
        parts = load_data(sources, generator, encode, config, output)
    steps = len(parts.training.batches(np.random.default_rng(0)))
    run.log.info(
        "%d steps per epoch on %d x %s, %s", steps, fabric.world_size, fabric.device.type, config.precision
    )
    gan = Gan.make(fabric, generator, discriminator, config, steps * config.epochs)
    average, standing = Average(generator, config.ema), _Standing()
    if state is not None:
        gan.load(state["gan"])
        average.load(state["average"])
        standing = _Standing(**state["standing"])
    training = _Training(
        fabric, config, sources, parts, gan, average, run, standing,
        float("inf") if save_every is None else 60 * save_every,
    )  # fmt: skip

    history = History(output, standing.epoch) if run.writes else None
    done = standing.epoch * steps + standing.step
    with (
        StopRequest(worker=fabric.world_size > 1) as stop,
        Display(config.epochs, steps, done, shown=run.writes) as display,
    ):
        began, stopped = time.monotonic(), False
        while standing.epoch < config.epochs and not stopped:
            started = time.monotonic()
            stopped = _epoch(training, stop, display)
            if standing.step:
                break
            row = _summary(training, steps, started)
            if history is not None:
                _conclude(training, row)
                history.add(row)
                display.validated(row["validation"].get("all"))
                left = (time.monotonic() - began) / (standing.epoch * steps - done)
                left *= (config.epochs - standing.epoch) * steps
                run.log.info("%s", _line(row, config.epochs, left))
            training.save()
            fabric.barrier()
            _, stopped = _shared(fabric, {}, stop=stop.made)
    finished = standing.epoch == config.epochs
    if not finished:
        run.log.info("interrupted after %d epochs and %d steps", standing.epoch, standing.step)
    run.close()
    if history is not None:
        history.close()
    return standing.best if finished else None


def _epoch(training: _Training, stop: StopRequest, display: Display) -> bool:
    """The steps of an epoch that are still to do; True when asked to stop, the state being saved."""
    fabric, config, gan, standing = training.fabric, training.config, training.gan, training.standing
    data, epoch = training.parts.training, standing.epoch
    order = data.batches(np.random.default_rng([config.seed, epoch]))
    gan.generator.train()
    adversarial = gan.discriminator is not None and epoch >= config.adversarial_warmup
    for step, batch in _batches(fabric, data, order, (config.seed, epoch), standing.step):
        # Seeds what the networks draw themselves: dropout.
        torch.manual_seed(_number(config.seed, epoch, step, fabric.global_rank))
        terms = train_step(fabric, gan, batch, config, adversarial=adversarial)
        training.average.update(gan.generator)
        losses, stopped = _shared(fabric, terms, stop=stop.made)
        for name, value in losses.items():
            standing.totals[name] = standing.totals.get(name, 0.0) + value
        display.step(epoch, losses)
        standing.step = step + 1
        if standing.step == len(order):
            break
        if stopped or time.monotonic() - training.saved > training.save_every:
            training.save()
        if stopped:
            return True
    standing.epoch, standing.step = epoch + 1, 0
    return False


def _summary(training: _Training, steps: int, started: float) -> dict[str, Any]:
    """The finished epoch as a row of the history, validated where this process writes."""
    standing, validation = training.standing, training.parts.validation
    row: dict[str, Any] = {
        "epoch": standing.epoch,
        "learning_rate": training.gan.schedule.get_last_lr()[-1],
        "loss": {name: total / steps for name, total in standing.totals.items()},
        "validation": {},
    }
    standing.totals = {}
    if validation is not None and training.run.writes:
        scores, loss = validation.score(training.average.model)
        row["validation"] = {"loss": loss, **scores}
    row["seconds"] = time.monotonic() - started
    return row


def _conclude(training: _Training, row: dict[str, Any]) -> None:
    """Save the epoch's weights, and as the result where they are the best, or there is no choice."""
    standing, folder = training.standing, training.run.folder
    scores = {name: value for name, value in row["validation"].items() if name != "loss"}
    model = training.average.model
    description = describe(training.sources, training.parts, training.config, standing.epoch, scores)
    save_generator(model, description, folder / "last.safetensors")
    if not scores or _quality(scores) > _quality(standing.best):
        standing.best = scores
        save_generator(model, description, folder / "generator.safetensors")


def _quality(scores: dict[str, float]) -> float:
    """What the best epoch has most of: CC, and where texts with boxes are validated, half that and half their pointing."""
    told = [scores[kind] for kind in POINTING if kind in scores]
    overall = scores.get("all", -1.0)
    return (overall + float(np.mean(told))) / 2 if told else overall


def _batches(
    fabric: Fabric,
    data: TrainingSet | PairSet,
    order: Sequence[Sequence[int]],
    seeds: tuple[int, int],
    first: int,
) -> Iterator[tuple[int, Batch]]:
    """Number of the step and this process's share of its batch, from step `first`, on the device.

    A thread makes two batches ahead, while the networks compute.
    """

    def make(step: int) -> Batch:
        share = list(enumerate(order[step]))[fabric.global_rank :: fabric.world_size]
        # A generator for each photo: what is drawn for one depends on no other.
        return _joined(
            data.batch([index], np.random.default_rng([*seeds, step, place])) for place, index in share
        )

    with ThreadPoolExecutor(1) as thread:
        ahead = deque(thread.submit(make, step) for step in range(first, min(first + 2, len(order))))
        for step in range(first, len(order)):
            batch = ahead.popleft().result()
            if step + 2 < len(order):
                ahead.append(thread.submit(make, step + 2))
            yield step, _moved(batch, fabric.device)


def _joined(batches: Iterable[Batch]) -> Batch:
    rows = list(batches)
    fields: dict[str, Any] = {}
    for part in dataclasses.fields(Batch):
        values = [getattr(row, part.name) for row in rows]
        fields[part.name] = None if values[0] is None else torch.cat(values)
    return Batch(**fields)


def _moved(batch: Batch, device: torch.device) -> Batch:
    parts: dict[str, Any] = {part.name: getattr(batch, part.name) for part in dataclasses.fields(Batch)}
    moved: dict[str, Any] = {name: t if t is None else t.to(device) for name, t in parts.items()}
    return Batch(**moved)


def _shared(fabric: Fabric, terms: dict[str, Tensor], *, stop: bool) -> tuple[dict[str, float], bool]:
    """Loss terms summed over the processes, and whether any of them was asked to stop."""
    values = torch.stack([*terms.values(), torch.tensor(float(stop), device=fabric.device)])
    *sums, stopped = summed(fabric, values).tolist()
    return dict(zip(terms, sums, strict=True)), stopped > 0


def _number(*place: int) -> int:
    """One seed for a place in the training."""
    return int(np.random.default_rng(place).integers(2**63 - 1))


def _line(row: dict[str, Any], epochs: int, seconds_left: float) -> str:
    """An epoch in one line of the log."""
    losses, validation = dict(row["loss"]), dict(row["validation"])
    words = [f"epoch {row['epoch']}/{epochs} loss {losses.pop('generator'):.4f}"]
    words += [f"{name} {value:.4f}" for name, value in losses.items()]
    if validation:
        words.append(f"| validation loss {validation.pop('loss'):.4f} CC")
        words += [f"{name} {value:.3f}" for name, value in validation.items()]
    words.append(f"({row['seconds']:.0f} s, {seconds_left / 60:.0f} min left)")
    return " ".join(words)


Row = dict[str, Any]


class History:
    """Keeps ``metrics.jsonl``, ``tensorboard/`` and ``curves.png`` in a run's folder.

    A row has ``epoch`` (from 1), ``seconds``, ``learning_rate``, ``loss`` (terms by name,
    ``generator`` and ``discriminator`` are the sums) and ``validation`` (``loss`` and CC by
    condition; empty without validation).

    Args:
        folder: of the run.
        epochs: how many were finished; rows of later ones are dropped, as left by an interruption.
    """

    def __init__(self, folder: Path, epochs: int) -> None:
        self._folder = folder
        self._file = folder / "metrics.jsonl"
        self.rows: list[Row] = []
        if epochs and self._file.exists():
            rows = [json.loads(line) for line in self._file.read_text().splitlines()]
            self.rows = [row for row in rows if row["epoch"] <= epochs]
        self._board = SummaryWriter(
            str(folder / "tensorboard"), purge_step=epochs + 1 if epochs else None, write_to_disk=True
        )

    def add(self, row: Row) -> None:
        """Record an epoch."""
        self.rows.append(row)
        with writing(self._file) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        for group in ("loss", "validation"):
            for name, value in row[group].items():
                self._board.add_scalar(f"{group}/{name}", value, row["epoch"])
        self._board.add_scalar("learning_rate", row["learning_rate"], row["epoch"])
        self._board.flush()
        plot_curves(self.rows, self._folder / "curves.png")

    def close(self) -> None:
        """Close the TensorBoard log."""
        self._board.close()


def plot_curves(rows: Sequence[Row], path: Path) -> None:
    """Draw losses of generator, discriminator and validation, and validation CC, over the epochs.

    Args:
        rows: see `History`; at least one.
        path: PNG file.
    """
    panels = [("generator loss", "loss", "generator"), ("discriminator loss", "loss", "discriminator"),
              ("validation loss", "validation", "loss"), ("validation CC", "validation", "all")]  # fmt: skip
    panels = [panel for panel in panels if any(panel[2] in row[panel[1]] for row in rows)]
    figure = Figure(figsize=(4 * len(panels), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (title, group, name) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        points = [(row["epoch"], row[group][name]) for row in rows if name in row[group]]
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 40 else None)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(rows[0]["epoch"] - 0.5, rows[-1]["epoch"] + 0.5)
        axes.grid(visible=True, alpha=0.3)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
