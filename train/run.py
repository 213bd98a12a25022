"""A training run's folder: settings, log file, resumable state."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import torch

from salgan_edge.errors import CheckpointError
from salgan_edge.files import writing

if TYPE_CHECKING:
    from pathlib import Path

    from salgan_edge.train.config import DistillConfig, TrainConfig

__all__ = ["Run", "check_folder"]


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
