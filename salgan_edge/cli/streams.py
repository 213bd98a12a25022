"""Options of commands that predict one frame after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from salgan_edge.stabilise import Stabiliser

__all__ = ["HalfLifeOption", "NormaliseOption", "stabiliser_of"]

HalfLifeOption = Annotated[
    float,
    typer.Option(min=0, help="Seconds after which a frame counts half in the smoothed map; 0: no smoothing."),
]
NormaliseOption = Annotated[
    bool,
    typer.Option(
        "--normalise/--no-normalise",
        help="Scale maps by a running percentile, so that they do not pulse, or each by its own maximum.",
    ),
]


def stabiliser_of(half_life: float, normalise: bool) -> Stabiliser | None:
    """What the options ask for; None where each map stays as it is."""
    if not half_life and not normalise:
        return None
    from salgan_edge.stabilise import Stabiliser  # noqa: PLC0415

    return Stabiliser(half_life or None) if normalise else Stabiliser(half_life or None, None)
