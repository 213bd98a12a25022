"""What every training here has: a folder, a bar on the terminal, an average of its weights, and a way to stop.

On Ctrl-C the step is finished and the state saved, then the training stops.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from salgan_edge.errors import CheckpointError
from salgan_edge.files import writing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import FrameType, TracebackType

    from salgan_edge.train.config import DistillConfig, TrainConfig
    from torch import Tensor, nn

__all__ = ["Average", "Display", "Run", "StopRequest", "TrainingInterrupted", "check_folder"]


def check_folder(folder: Path, config: DistillConfig | TrainConfig, *, resume: bool) -> None:
    """See that a run can start, or go on, in a folder.

    Raises:
        CheckpointError: the folder holds a run with other settings, or one that `resume` was not
            asked for.
    """
    if not (folder / _STATE).exists():
        return
    if not resume:
        raise CheckpointError(
            f"{folder} holds an unfinished or finished run: add --resume, or choose another folder"
        )
    before, settings = json.loads((folder / _CONFIG).read_text()), dataclasses.asdict(config)
    other = {name for name in settings if before.get(name) != settings[name]}
    if other:
        raise CheckpointError(
            f"{folder} was trained with other settings ({', '.join(sorted(other))}): "
            "resume with the same, or choose another folder"
        )


class Run:
    """Folder of one run: ``config.json``, ``train.log``, ``state.pt`` and what the training saves.

    Args:
        folder: made if missing.
        config: what the run trains with; a resumed run must have the same.
        resume: go on from ``state.pt`` if it is there.
        writes: whether this process writes: of several, one does.

    Raises:
        CheckpointError: see `check_folder`.
    """

    def __init__(
        self, folder: Path, config: DistillConfig | TrainConfig, *, resume: bool, writes: bool = True
    ) -> None:
        self.folder = folder
        self.writes = writes
        self._state_file = folder / _STATE
        self.log = logging.getLogger(f"salgan_edge.train.{folder.name}")
        self.log.setLevel(logging.INFO)
        self.log.propagate = False
        self.close()
        if not writes:
            self.log.addHandler(logging.NullHandler())
            return
        check_folder(folder, config, resume=resume)
        folder.mkdir(parents=True, exist_ok=True)
        with writing(folder / _CONFIG) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n")
        for handler in (logging.FileHandler(folder / "train.log"), _StandardError()):
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
            self.log.addHandler(handler)

    def load_state(self) -> dict[str, Any] | None:
        """The state saved last, or None at a fresh start."""
        if not self._state_file.exists():
            return None
        state: dict[str, Any] = torch.load(self._state_file, map_location="cpu", weights_only=True)
        return state

    def save_state(self, **state: Any) -> None:
        """Save what `load_state` gives back; an interrupted save leaves the last one."""
        if self.writes:
            with writing(self._state_file) as temporary:
                torch.save(state, temporary)

    def close(self) -> None:
        """Close the log file."""
        for handler in list(self.log.handlers):
            self.log.removeHandler(handler)
            handler.close()


_CONFIG = "config.json"
_STATE = "state.pt"


class _StandardError(logging.Handler):
    """Writes to what ``sys.stderr`` is at the time: a progress display takes its place for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)  # noqa: T201 - a log that people read


M = TypeVar("M", bound="nn.Module")


class Average(Generic[M]):
    """A copy of `model` whose weights follow it: ``a = decay * a + (1 - decay) * w``.

    Early on the decay is smaller, ``(1 + n) / (10 + n)`` after n updates, so that the random start
    is forgotten.
    """

    def __init__(self, model: M, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(requires_grad=False)
        self._decay = decay
        self._updates = 0

    @torch.no_grad()
    def update(self, model: M) -> None:
        """Move towards `model`'s weights; buffers are copied."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        for mine, new in zip(self.model.parameters(), model.parameters(), strict=True):
            mine.lerp_(new.detach(), 1 - decay)
        for kept, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)

    def state(self) -> dict[str, int | dict[str, Tensor]]:
        """What `load` restores, the counter included."""
        return {"updates": self._updates, "model": self.model.state_dict()}

    def load(self, state: dict[str, int | dict[str, Tensor]]) -> None:
        """Restore what `state` gave."""
        updates, weights = state["updates"], state["model"]
        assert isinstance(updates, int)
        assert isinstance(weights, dict)
        self._updates = updates
        self.model.load_state_dict(weights)


class TrainingInterrupted(KeyboardInterrupt):
    """A training was interrupted; its state is saved and ``resume`` goes on with it."""


class StopRequest:
    """Takes interrupts (SIGINT) while its block runs.

    The first one sets `made`. A second one interrupts at once, except in a worker, which has a
    parent that passes the first one on and cannot tell who has had it.

    Args:
        worker: this process is one of several that train together.
        forward: pass the first interrupt on to the workers that this process started.
    """

    def __init__(self, *, worker: bool = False, forward: bool = False) -> None:
        self.made = False
        self._worker, self._forward = worker, forward

    def __enter__(self) -> Self:
        """Begin to take interrupts; in a thread, where Python allows it not, nothing changes."""
        self._taken = threading.current_thread() is threading.main_thread()
        if self._taken:
            self._before = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give interrupts back."""
        if self._taken:
            signal.signal(signal.SIGINT, self._before)

    def _take(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as `signal` calls it
        if self.made and not self._worker:
            raise KeyboardInterrupt
        self.made = True
        if self._forward:
            for child in multiprocessing.active_children():
                if child.pid is not None:
                    os.kill(child.pid, signal.SIGINT)


class Display:
    """Shows a bar while its block runs, if standard error is a terminal; else nothing.

    Args:
        epochs: of the whole training.
        steps: of one epoch.
        done: steps that were taken before, in an interrupted run.
        shown: False shows nothing at all.
    """

    def __init__(self, epochs: int, steps: int, done: int, *, shown: bool) -> None:
        self._epochs, self._steps = epochs, steps
        self._bar: Progress | None = None
        if shown and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[losses]} {task.fields[scores]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                # Steps are fast and validation is slow: only whole epochs say how long it takes.
                speed_estimate_period=3600,
            )
            self._task = self._bar.add_task(
                f"epoch 1/{epochs}", total=epochs * steps, completed=done, losses="", scores=""
            )

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()

    def step(self, epoch: int, losses: Mapping[str, float]) -> None:
        """A step of an epoch (counted from 0) was taken."""
        if self._bar is not None:
            text = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
            self._bar.update(
                self._task, advance=1, description=f"epoch {epoch + 1}/{self._epochs}", losses=text
            )

    def validated(self, correlation: float | None) -> None:
        """An epoch was validated with this CC over all pairs, or not."""
        if self._bar is not None and correlation is not None:
            self._bar.update(self._task, scores=f"CC {correlation:.3f}")
