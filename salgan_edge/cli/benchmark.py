"""`salgan-edge benchmark`: how fast is a bundle on this machine, and what does it need?"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from salgan_edge.cli.options import JsonOption, ProviderOptions, StrictOption, execution_of, needs
from salgan_edge.console import one_line_warnings
from salgan_edge.devices import DEVICES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from salgan_edge.benchmarks.record import Record
    from salgan_edge.benchmarks.settings import Settings
    from salgan_edge.devices import Execution

__all__ = ["benchmark"]

_DeviceName = StrEnum("_DeviceName", [(name, name) for name in ("auto", "all", *DEVICES)])  # type: ignore[misc]


def benchmark(
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="BUNDLE",
            help="default, small, bundle folders or .salgan files; default if none. Several are compared with the first.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        list[_DeviceName] | None,
        typer.Option(
            help="Where to run; repeat it to compare several; all: those that work here. Default: CUDA where it works, else the CPU."
        ),
    ] = None,
    threads: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="CPU threads; default: 1, 2, 4, ... and all that are allowed."),
    ] = None,
    prompts: Annotated[
        str, typer.Option("--prompt-counts", metavar="N,...", help="Prompts on one photo.")
    ] = "1,2,4,8",
    batch: Annotated[str, typer.Option(metavar="N,...", help="Photos in one run.")] = "1,4",
    frames: Annotated[
        str,
        typer.Option(
            metavar="SIZE,...", help="Of the photos, or WIDTHxHEIGHT; the first is that of all other rows."
        ),
    ] = "vga,720p,1080p,4k",
    quick: Annotated[
        bool, typer.Option("--quick", help="Few runs: less than a minute in place of several.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GROUP",
            help="Measure just this: load, stage, end_to_end, threads, prompts, batch, frame, device, precision, "
            "memory or peer; repeat it for several.",
        ),
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Time others in the same run: paper, neck, clipseg, spectral-residual, fine-grained, matmul, or all.",
        ),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="Likewise a graph of your own, name=file.onnx; repeatable."),
    ] = None,
    soak: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Run the live loop for so long (10m) and watch memory, pace and temperature, nothing else.",
        ),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A.json B.json", help="Measure nothing: compare two results."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Also write the result as JSON.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the rows as CSV.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also draw pictures; needs salgan-edge[train].")
    ] = None,
    as_json: JsonOption = False,
    strict: StrictOption = False,
    provider_option: ProviderOptions = None,
) -> None:
    """Measure how fast bundles are here: loading, stages, threads, prompts, sizes, memory.

    salgan-edge benchmark --quick

    Rows of one group are measured in turn in one run, so that a busy machine slows all alike. Close other programs
    all the same.
    """
    if compare is not None:
        _refuse_beside("--compare", {"--soak": soak, "--csv": csv, "--plot": plot, "--output": output})
        _compare(*compare, as_json=as_json)
        return
    from salgan_edge.benchmarks.record import check_place  # noqa: PLC0415
    from salgan_edge.benchmarks.settings import OptionError, Settings  # noqa: PLC0415

    for file in (output, csv):
        check_place(file)
    if plot is not None:
        with needs("train", "matplotlib"):
            import matplotlib as mpl  # noqa: F401, PLC0415
    names = _device_names(device)
    first = execution_of(names[0], None, strict and names[0] != "cpu", provider_option)
    try:
        if soak is not None:
            _refuse_beside(
                "--soak", {"--only": only, "--peers": peers, "--peer": peer, "--csv": csv, "--plot": plot}
            )
            record, text = _soaked(bundles or [], first, soak, frames)
        else:
            settings = Settings.parse(
                bundles or (), names, threads=threads, prompts=prompts, batch=batch, frames=frames, only=only or (),
                peers=peers, peer_files=peer or (), strict=strict, options=first.options, quick=quick,
            )  # fmt: skip
            record, text = _measured(settings)
    except OptionError as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from error
    _deliver(record, text, output, csv, plot, as_json=as_json)


def _refuse_beside(option: str, others: dict[str, object]) -> None:
    for name, value in others.items():
        if value:
            raise typer.BadParameter(f"it does not go with {name}", param_hint=option)


def _device_names(device: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the devices, each once."""
    names = tuple(dict.fromkeys(str(name) for name in device or ["auto"]))
    if "all" not in names:
        return names
    if len(names) > 1:
        raise typer.BadParameter("all goes with no other device", param_hint="--device")
    from salgan_edge.benchmarks.settings import working_devices  # noqa: PLC0415

    return working_devices(lambda line: typer.echo(f"note: {line}", err=True))


def _measured(settings: Settings) -> tuple[Record, str]:
    """The record, and what is printed of it."""
    from salgan_edge.benchmarks.harness import expected_seconds, measure  # noqa: PLC0415
    from salgan_edge.benchmarks.report import progress_line, to_text  # noqa: PLC0415

    if sys.stderr.isatty():
        seconds = expected_seconds(settings)
        about = f"{max(5, 5 * round(seconds / 5))} s" if seconds < 90 else f"{round(seconds / 60)} minutes"
        typer.echo(f"this takes about {about}; --quick and --only take less", err=True)
    with one_line_warnings(), progress_line() as progress:
        record = measure(settings, progress)
    return record, to_text(record)


def _soaked(bundles: Sequence[Path], execution: Execution, time: str, frames: str) -> tuple[Record, str]:
    """Likewise of a soak."""
    from salgan_edge.benchmarks.record import machine  # noqa: PLC0415
    from salgan_edge.benchmarks.settings import parse_duration, parse_frames  # noqa: PLC0415
    from salgan_edge.benchmarks.soak import soak, soak_record, tell_sample  # noqa: PLC0415

    if len(bundles) > 1:
        raise typer.BadParameter("it takes one bundle", param_hint="--soak")
    seconds = parse_duration(time)
    (size,) = parse_frames(frames if "," not in frames else "vga")
    where = machine()
    watched = sys.stderr.isatty()
    with one_line_warnings():
        result = soak(
            bundles[0] if bundles else None, execution, seconds, width=size.width, height=size.height,
            tell=lambda sample: typer.echo(tell_sample(sample), err=True) if watched else None,
        )  # fmt: skip
    settings: dict[str, Any] = {"soak_seconds": seconds, "frames": [str(size)], "devices": [execution.device]}
    return soak_record(result, settings, where), result.to_text()


def _deliver(
    record: Record, text: str, output: Path | None, csv: Path | None, plot: Path | None, *, as_json: bool
) -> None:
    """Write and print a result."""
    from salgan_edge.benchmarks.record import save  # noqa: PLC0415
    from salgan_edge.benchmarks.report import plot as draw  # noqa: PLC0415
    from salgan_edge.benchmarks.report import write_csv  # noqa: PLC0415

    written: list[Path] = []
    if output is not None:
        save(record, output)
        written.append(output)
    if csv is not None:
        write_csv(record, csv)
        written.append(csv)
    if plot is not None:
        written += draw(record, plot)
    _print(record.to_dict(), text, as_json=as_json)
    for path in written:
        typer.echo(str(path), err=True)


def _compare(before: Path, after: Path, *, as_json: bool) -> None:
    from salgan_edge.benchmarks.compare import compare, to_text  # noqa: PLC0415
    from salgan_edge.benchmarks.record import load  # noqa: PLC0415

    comparison = compare(load(before), load(after))
    _print(comparison.to_dict(), to_text(comparison), as_json=as_json)


def _print(values: dict[str, Any], text: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(values, ensure_ascii=False, allow_nan=False) if as_json else text)
