"""`salgan-edge benchmark`: how fast is a bundle on this machine, and what does it need?"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from salgan_edge.cli.execution import DeviceName, ProviderOptions, StrictOption, execution_of
from salgan_edge.cli.extras import needs
from salgan_edge.console import one_line_warnings
from salgan_edge.errors import DeviceError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from salgan_edge.benchmarks.record import Record
    from salgan_edge.benchmarks.settings import Settings
    from salgan_edge.devices import Execution

__all__ = ["benchmark"]

_PROBE_SECONDS = 60.0
_T = TypeVar("_T")


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
        list[DeviceName] | None,
        typer.Option(
            help="Where to run; repeat it to compare several. Default: CUDA where it works, else the CPU."
        ),
    ] = None,
    devices: Annotated[
        str | None, typer.Option(metavar="auto", help="auto: compare all devices that work here.")
    ] = None,
    threads: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="CPU threads; default: 1, 2, 4, ... and all that are allowed."),
    ] = None,
    prompts: Annotated[str, typer.Option(metavar="N,...", help="Prompts on one photo.")] = "1,2,4,8",
    batch: Annotated[str, typer.Option(metavar="N,...", help="Photos in one run.")] = "1,4",
    frames: Annotated[
        str,
        typer.Option(
            metavar="SIZE,...", help="Of the photos, or WIDTHxHEIGHT; the first is that of all other rows."
        ),
    ] = "vga,720p,1080p,4k",
    quick: Annotated[
        bool, typer.Option("--quick", help="Few runs: about 15 seconds in place of a minute or more.")
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
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
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
    for file in (output, csv):
        _check_place(file)
    if plot is not None:
        with needs("train", "matplotlib"):
            import matplotlib as mpl  # noqa: F401, PLC0415
    names = _device_names(device, devices)
    first = execution_of(names[0], None, strict and names[0] != "cpu", provider_option)
    if soak is not None:
        _refuse_beside(
            "--soak", {"--only": only, "--peers": peers, "--peer": peer, "--csv": csv, "--plot": plot}
        )
        _soak(bundles or [], first, soak, frames if "," not in frames else "vga", output, as_json=as_json)
        return
    settings = _settings(
        bundles or [], names, first, threads=threads, prompts=prompts, batch=batch, frames=frames,
        only=only or [], peers=peers, peer=peer or [], quick=quick, strict=strict,
    )  # fmt: skip
    record = _measured(settings)
    _deliver(record, output, csv, plot, as_json=as_json)


def _settings(
    bundles: Sequence[Path],
    names: tuple[str, ...],
    first: Execution,
    *,
    threads: str | None,
    prompts: str,
    batch: str,
    frames: str,
    only: Sequence[str],
    peers: str | None,
    peer: Sequence[str],
    quick: bool,
    strict: bool,
) -> Settings:
    """What the options say.

    Raises:
        typer.BadParameter: they cannot be understood.
    """
    from salgan_edge.benchmarks.record import GROUPS  # noqa: PLC0415
    from salgan_edge.benchmarks.settings import (  # noqa: PLC0415
        Settings,
        default_threads,
        parse_frames,
        parse_numbers,
    )
    from salgan_edge.bundle import default_bundle  # noqa: PLC0415

    groups = [group for group in GROUPS if group != "soak"]
    chosen = [word.strip() for word in (peers or "").split(",") if word.strip()]
    _check_words(only, groups, "--only")
    if chosen or "peer" in only:
        from salgan_edge.benchmarks.peers import PEERS  # noqa: PLC0415

        if chosen == ["all"] or not (chosen or peer):
            chosen = list(PEERS)
        _check_words(chosen, [*PEERS, "all"], "--peers")
    return Settings(
        bundles=tuple(bundles) or (default_bundle(),),
        devices=names,
        threads=default_threads() if threads is None else _parsed(parse_numbers, threads, "--threads"),
        prompts=_parsed(parse_numbers, prompts, "--prompts"),
        batch=_parsed(parse_numbers, batch, "--batch"),
        frames=_parsed(parse_frames, frames, "--frames"),
        only=tuple(only),
        peers=tuple(dict.fromkeys(chosen)),
        peer_files=tuple(peer),
        strict=strict,
        options=first.options,
        quick=quick,
    )


def _check_words(words: Sequence[str], known: Sequence[str], option: str) -> None:
    for word in words:
        if word not in known:
            raise typer.BadParameter(
                f"{word!r} is unknown: {', '.join(known)} were expected", param_hint=option
            )


def _parsed(parse: Callable[[str], _T], text: str, option: str) -> _T:
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _refuse_beside(option: str, others: dict[str, object]) -> None:
    for name, value in others.items():
        if value:
            raise typer.BadParameter(f"it does not go with {name}", param_hint=option)


def _check_place(file: Path | None) -> None:
    """Refuse at once what could not be written after minutes of measuring.

    Raises:
        OutputError: the file is a folder, or its folder cannot be written.
    """
    if file is None:
        return
    if file.is_dir():
        raise OutputError(f"{file} is a folder: give the name of a file")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        raise OutputError(f"cannot write {file}: {error.strerror or error}; choose another place") from error


def _device_names(device: Sequence[DeviceName] | None, devices: str | None) -> tuple[str, ...]:
    """Devices to measure; `auto` for what `predict` would take."""
    if devices is None:
        return tuple(dict.fromkeys(name.value for name in device or [DeviceName.auto]))
    if devices != "auto":
        raise typer.BadParameter(
            f"{devices!r} was given: auto was expected; name single devices with --device",
            param_hint="--devices",
        )
    if device:
        raise typer.BadParameter("it does not go with --device", param_hint="--devices")
    from salgan_edge.doctor.devices import gather_devices  # noqa: PLC0415
    from salgan_edge.doctor.probe import ask  # noqa: PLC0415

    answer = ask("import", "onnxruntime", timeout=_PROBE_SECONDS)
    providers = answer.values.get("details", {}).get("providers", [])
    found = gather_devices(providers, _PROBE_SECONDS, usable=not answer.problem)
    for facts in found:
        if facts.tried and not facts.works:
            typer.echo(f"note: {facts.name} is left out: {facts.problem}", err=True)
    working = tuple(facts.name for facts in found if facts.works)
    if not working:
        raise DeviceError(f"no device works here: {answer.problem or 'see salgan-edge doctor'}")
    return working


class _Progress:
    """One line on standard error that the next overwrites, where a person watches."""

    def __init__(self) -> None:
        self._watched = sys.stderr.isatty()
        self._shown = ""

    def __call__(self, group: str, share: float) -> None:
        line = f"measuring: {group.replace('_', ' ')} {share:4.0%}"
        if self._watched and line != self._shown:
            self._shown = line
            typer.echo(f"\r\033[K{line}", err=True, nl=False)

    def clear(self) -> None:
        if self._shown:
            typer.echo("\r\033[K", err=True, nl=False)


def _measured(settings: Settings) -> Record:
    from salgan_edge.benchmarks.sweeps import expected_seconds, measure  # noqa: PLC0415

    if sys.stderr.isatty():
        seconds = expected_seconds(settings)
        typer.echo(f"this takes about {_duration(seconds)}; --quick and --only take less", err=True)
    progress = _Progress()
    try:
        with one_line_warnings():
            return measure(settings, progress)
    finally:
        progress.clear()


def _duration(seconds: float) -> str:
    return f"{max(5, 5 * round(seconds / 5))} s" if seconds < 90 else f"{round(seconds / 60)} minutes"


def _deliver(
    record: Record, output: Path | None, csv: Path | None, plot: Path | None, *, as_json: bool
) -> None:
    """Write and print a result."""
    from salgan_edge.benchmarks.record import save  # noqa: PLC0415
    from salgan_edge.benchmarks.report import to_text, write_csv  # noqa: PLC0415

    written: list[Path] = []
    if output is not None:
        save(record, output)
        written.append(output)
    if csv is not None:
        write_csv(record, csv)
        written.append(csv)
    if plot is not None:
        from salgan_edge.benchmarks.plots import plot as draw  # noqa: PLC0415

        written += draw(record, plot)
    if as_json:
        typer.echo(json.dumps(record.to_dict(), ensure_ascii=False, allow_nan=False))
    else:
        typer.echo(to_text(record))
    for path in written:
        typer.echo(str(path), err=True)


def _compare(before: Path, after: Path, *, as_json: bool) -> None:
    from salgan_edge.benchmarks.compare import compare, to_text  # noqa: PLC0415
    from salgan_edge.benchmarks.record import load  # noqa: PLC0415

    comparison = compare(load(before), load(after))
    if as_json:
        typer.echo(json.dumps(comparison.to_dict(), ensure_ascii=False, allow_nan=False))
    else:
        typer.echo(to_text(comparison))


def _soak(
    bundles: Sequence[Path],
    execution: Execution,
    time: str,
    frame: str,
    output: Path | None,
    *,
    as_json: bool,
) -> None:
    from salgan_edge.benchmarks.settings import parse_duration, parse_frames  # noqa: PLC0415

    if len(bundles) > 1:
        raise typer.BadParameter("it takes one bundle", param_hint="--soak")
    seconds = _parsed(parse_duration, time, "--soak")
    (size,) = _parsed(parse_frames, frame, "--frames")
    from salgan_edge.benchmarks.machine import machine  # noqa: PLC0415
    from salgan_edge.benchmarks.record import save  # noqa: PLC0415
    from salgan_edge.benchmarks.soak import Sample, soak, soak_record, tell_sample  # noqa: PLC0415

    def tell(sample: Sample) -> None:
        if sys.stderr.isatty():
            typer.echo(tell_sample(sample), err=True)

    where = machine()
    with one_line_warnings():
        result = soak(
            bundles[0] if bundles else None,
            execution,
            seconds,
            width=size.width,
            height=size.height,
            tell=tell,
        )
    settings: dict[str, Any] = {"soak_seconds": seconds, "frames": [str(size)], "devices": [execution.device]}
    record = soak_record(result, settings, where)
    if output is not None:
        save(record, output)
    if as_json:
        typer.echo(json.dumps(record.to_dict(), ensure_ascii=False, allow_nan=False))
    else:
        typer.echo(result.to_text())
    if output is not None:
        typer.echo(str(output), err=True)
