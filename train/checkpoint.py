"""Generator checkpoints: weights in safetensors, what they are in the file's metadata."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from salgan_edge.train.networks import PRESETS
from salgan_edge.train.networks.paper import load_published

from salgan_edge.errors import CheckpointError
from salgan_edge.files import writing

if TYPE_CHECKING:
    from pathlib import Path

    from salgan_edge.train.networks.generator import Generator
    from torch import nn

__all__ = ["Description", "build", "load_generator", "save_generator"]

_KEY = "salgan_edge"
_HALF = ("eyes.", "eye_query.")
_LONGEST = 400
"""Characters of a reason in a message."""


@dataclass(frozen=True)
class Description:
    """What a checkpoint is; written into it and into every bundle made of it."""

    preset: str
    """One of `salgan_edge.train.networks.PRESETS`."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of the network's class."""
    text_space: str = "clip-vit-base-patch32"
    """Whose text vectors the generator was trained on."""
    training: dict[str, Any] = field(default_factory=dict)
    """Settings, data sets and split."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Scores, and the split they were measured on."""


def build(description: Description) -> Generator:
    """The network of a description, with fresh weights.

    Raises:
        CheckpointError: no such preset, or a size that it cannot have.
    """
    preset = PRESETS.get(description.preset)
    if preset is None:
        raise CheckpointError(
            f"preset {description.preset!r} is unknown: {' or '.join(PRESETS)} was expected"
        )
    size = description.arguments.get("size", preset.stride)
    if size < preset.stride or size % preset.stride:
        raise CheckpointError(
            f"size {size} does not fit preset {description.preset}: a multiple of {preset.stride} was expected"
        )
    try:
        return preset.network()(**description.arguments)
    except TypeError as error:
        raise CheckpointError(
            f"the checkpoint's settings do not fit preset {description.preset} of this version: {error}"
        ) from error


def save_generator(model: nn.Module, description: Description, path: Path) -> None:
    """Write weights and description as one safetensors file.

    The second backbone and what reads it are written in half precision, in which bundles store them.
    """
    tensors = {
        name: (tensor.half() if name.startswith(_HALF) else tensor).detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
    }
    with writing(path) as temporary:
        save_file(tensors, temporary, metadata={_KEY: json.dumps(asdict(description))})


def load_generator(path: Path, size: int | None = None) -> tuple[Generator, Description]:
    """Network and description of a checkpoint, in evaluation mode.

    Reads this project's ``.safetensors`` and the published ``.pt`` files of CLIP-SalGan's generator.

    Args:
        path: the checkpoint.
        size: side of the input in pixels; the checkpoint's own where None. The weights fit any
            size: the layers are convolutions, and the learned maps are enlarged to the grid.

    Raises:
        CheckpointError: missing, damaged, or weights that do not fit the network exactly.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: give a generator checkpoint (.safetensors)")
    if path.suffix == ".pt":
        training = {"weights": f"published, {path.name}"}
        arguments = {} if size is None else {"size": size}
        try:
            model = load_published(path, **arguments)
        except CheckpointError as error:
            raise CheckpointError(_one_line(str(error))) from error
        except (AttributeError, TypeError) as error:  # a table whose keys are no names, or values no weights
            raise CheckpointError(
                f"{path} does not fit the paper's generator: {_one_line(str(error))}"
            ) from error
        return model, Description("paper", arguments, training=training)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if _KEY not in metadata:
            raise CheckpointError(
                f"{path} is no generator checkpoint of salgan-edge: its description is missing"
            )
        description = Description(**json.loads(metadata[_KEY]))
    except (SafetensorError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is damaged or of another version: {error}") from error
    if size is not None:
        description = replace(description, arguments={**description.arguments, "size": size})
    network = build(description)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = _one_line(str(error).splitlines()[-1].strip())
        raise CheckpointError(f"{path} does not fit preset {description.preset}: {reason}") from error
    network.eval()
    return network, description


def _one_line(message: str) -> str:
    """The first line of a message; PyTorch names every weight that is missing or too many."""
    line = next(iter(message.splitlines()), "")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."
