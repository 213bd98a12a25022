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

__all__ = ["Run"]


class Run:
    """Folder of one run: ``config.json``, ``train.log``, ``state.pt`` and what the training saves.

    Args:
        folder: made if missing.
        config: what the run trains with; a resumed run must have the same.
        resume: go on from ``state.pt`` if it is there.

    Raises:
        CheckpointError: the folder holds a run with other settings, or one that `resume` was not
            asked for.
    """

    def __init__(self, folder: Path, config: DistillConfig | TrainConfig, *, resume: bool) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        settings = dataclasses.asdict(config)
        config_file = folder / "config.json"
        self._state_file = folder / "state.pt"
        if self._state_file.exists():
            if not resume:
                raise CheckpointError(
                    f"{folder} holds an unfinished or finished run: add --resume, or choose another folder"
                )
            before = json.loads(config_file.read_text())
            other = {k for k in settings if before.get(k) != settings[k]}
            if other:
                raise CheckpointError(
                    f"{folder} was trained with other settings ({', '.join(sorted(other))}): "
                    "resume with the same, or choose another folder"
                )
        config_file.write_text(json.dumps(settings, indent=2) + "\n")
        self.log = logging.getLogger(f"salgan_edge.train.{folder.name}")
        self.log.setLevel(logging.INFO)
        self.log.propagate = False
        for old in list(self.log.handlers):
            self.log.removeHandler(old)
            old.close()
        for handler in (logging.FileHandler(folder / "train.log"), logging.StreamHandler(sys.stderr)):
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
            self.log.addHandler(handler)

    def load_state(self) -> dict[str, Any] | None:
        """The state saved last, or None at a fresh start."""
        if not self._state_file.exists():
            return None
        state: dict[str, Any] = torch.load(self._state_file, weights_only=True)
        return state

    def save_state(self, **state: Any) -> None:
        """Save what `load_state` gives back; an interrupted save leaves the last one."""
        with writing(self._state_file) as temporary:
            torch.save(state, temporary)

    def close(self) -> None:
        """Close the log file."""
        for handler in list(self.log.handlers):
            self.log.removeHandler(handler)
            handler.close()
