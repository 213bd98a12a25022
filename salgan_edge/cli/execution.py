"""The options that say how graphs are run; every command that runs a model has them."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from salgan_edge.devices import DEVICES, Execution, parse_options
from salgan_edge.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DeviceName", "DeviceOption", "ProviderOptions", "StrictOption", "ThreadsOption", "execution_of"]


class DeviceName(StrEnum):
    """``auto`` and the names of `salgan_edge.devices.DEVICES`, for the command line."""

    _ignore_ = ["device"]  # noqa: RUF012 - not a member
    auto = "auto"
    cpu = "cpu"
    # The others come from the registry; the commands name none of them.
    for device in DEVICES:
        if device != "cpu":
            vars()[device] = device


DeviceOption = Annotated[
    DeviceName,
    typer.Option(help="Where to run; auto is CUDA where it works, else the CPU."),
]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all allowed.")]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Refuse to run anything on the CPU that should be on the device.")
]
ProviderOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--provider-option",
        metavar="KEY=VALUE",
        help="Option of the device's execution provider, such as device_id=1; repeat it for several.",
    ),
]


def execution_of(
    device: str, threads: int | None, strict: bool, options: Sequence[str] | None, *, spinning: bool = True
) -> Execution:
    """What the options say.

    Raises:
        typer.BadParameter: they do not fit each other.
    """
    try:
        return Execution(device, threads, parse_options(options or ()), strict=strict, spinning=spinning)
    except DeviceError as error:
        raise typer.BadParameter(str(error), param_hint="--provider-option") from error
