"""Networks: a preset is one file here, which defines a `Generator`, and its row in `PRESETS`. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from salgan_edge.train.networks.generator import Generator

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True)
class Preset:
    """A network that can be trained and exported by its name."""

    place: str
    """Module in this folder and class, as ``module:Class``."""
    stride: int
    """The side of the input is a multiple of it."""
    settings: tuple[str, ...]
    """Fields of `TrainConfig` that are arguments of the class and are written into every checkpoint."""
    later: tuple[str, ...] = ()
    """Likewise, but written only where they are not the default: older checkpoints do not know them."""

    def network(self) -> type[Generator]:
        """The class; this loads torch."""
        module, _, name = self.place.partition(":")
        return cast("type[Generator]", getattr(import_module(f"{__name__}.{module}"), name))


PRESETS = MappingProxyType(
    {
        "edge": Preset("edge:EdgeGenerator", 32, ("size", "fusion"), ("eyes", "eye_scale", "fine_keys")),
        "paper": Preset("paper:PaperGenerator", 2, ("size",)),
    }
)
"""The presets by name."""
