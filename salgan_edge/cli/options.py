"""Options that several commands have, once: one name, one meaning. And the spellings of before, which work for one release."""

from __future__ import annotations

import contextlib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from salgan_edge.devices import DEVICES, Execution, parse_options
from salgan_edge.errors import DeviceError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "BundleArgument",
    "BundleOption",
    "DeviceName",
    "DeviceOption",
    "HalfLifeOption",
    "JsonOption",
    "NormaliseOption",
    "PromptPackOption",
    "ProviderOptions",
    "StrictOption",
    "ThreadsOption",
    "execution_of",
    "needs",
    "one_bundle",
    "today",
    "usage_errors",
]


class DeviceName(StrEnum):
    """``auto`` and the names of `salgan_edge.devices.DEVICES`, for the command line."""

    _ignore_ = ["device"]  # noqa: RUF012 - not a member
    auto = "auto"
    cpu = "cpu"
    # The others come from the registry; the commands name none of them.
    for device in DEVICES:
        if device != "cpu":
            vars()[device] = device


_WHICH = "default or small (installed with the package), a bundle folder or a .salgan file; default if none."

BundleOption = Annotated[Path | None, typer.Option("--bundle", "-b", help=_WHICH)]
BundleArgument = Annotated[Path | None, typer.Argument(metavar="[BUNDLE]", help=_WHICH, show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
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
PromptPackOption = Annotated[
    Path | None,
    typer.Option(
        "--prompt-pack",
        metavar="FILE",
        help="Prompt pack of salgan-edge bake: its texts, or those given, need no text encoder.",
    ),
]
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


def one_bundle(argument: Path | None, option: Path | None) -> Path | None:
    """The bundle of a command that takes it by its place or by ``--bundle``.

    Raises:
        typer.BadParameter: both are given.
    """
    if argument is not None and option is not None:
        raise typer.BadParameter(f"{argument} and {option} are two bundles: give one", param_hint="--bundle")
    return option if argument is None else argument


@contextlib.contextmanager
def needs(extra: str, *packages: str) -> Iterator[None]:
    """Turn a failed import of one of `packages` into a hint at the extra that brings it.

    Raises:
        MissingDependencyError: one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in packages:
            raise
        raise MissingDependencyError(
            f"{error.name} is not installed: pip install 'salgan-edge[{extra}]' (with cpu or gpu beside it)"
        ) from error


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """A setting that is refused is wrong usage: exit code 2."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


_RENAMED = {
    "predict": {"--prompts": "--prompt-pack"},
    "webcam": {"--prompts": "--prompt-pack", "--size": "--camera-size"},
    "evaluate": {"--data": "--gaze", "--compare": "--against"},
    "export": {"--data": "--gaze", "--size": "--input-size"},
    "train": {"--size": "--input-size", "--precision": "--training-precision", "--devices": "--processes"},
    "distill": {"--teacher": "--clip-model"},
    "benchmark": {"--prompts": "--prompt-counts", "--devices": "--device all"},
    "data prepare": {"--strict": "--all-or-nothing"},
}
"""By command, spellings of 0.1.0 and what they are now. To be dropped after 0.2."""


def today(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments with today's spellings, and a note for each that was of before.

    >>> today(["evaluate", "--data", "sjtu_tis", "--split=test"])
    (['evaluate', '--gaze', 'sjtu_tis', '--split=test'], ['--data of evaluate is now --gaze; the old spelling goes with the next release'])
    """
    words = [argument for argument in arguments if not argument.startswith("-")]
    command = next((name for name in (" ".join(words[:2]), *words[:1]) if name in _RENAMED), "")
    renamed = _RENAMED.get(command, {})
    found: list[str] = []
    notes: dict[str, None] = {}
    passed: int | None = None
    for number, argument in enumerate(arguments):
        if argument == "--":
            return [*found, *arguments[number:]], list(notes)
        option, equals, value = argument.partition("=")
        new = renamed.get(option)
        if number == passed:
            continue
        if new is None:
            found.append(argument)
            continue
        name, _, fixed = new.partition(" ")
        if fixed:  # in place of the value, here or in the next argument
            found += [name, fixed]
            passed = None if equals else number + 1
        else:
            found.append(f"{name}{equals}{value}")
        notes[f"{option} of {command} is now {new}; the old spelling goes with the next release"] = None
    return found, list(notes)
