"""``python -m salgan_edge.benchmarks``: peers in the same run, the gate, and what is committed.

``salgan-edge benchmark`` measures a bundle on a device; this is what the project is steered by.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from salgan_edge.console import one_line_warnings, show_log
from salgan_edge.errors import InputError, OutputError, SalganEdgeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from salgan_edge.benchmarks.gate import Check
    from salgan_edge.benchmarks.record import Record
    from salgan_edge.benchmarks.settings import Settings

__all__ = ["app", "main"]

_GATE_PEERS = "paper,neck,spectral-residual"
_README = Path(__file__).parents[1] / "README.md"

app = typer.Typer(
    help="Speed against peers, timed in the same run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_Bundle = Annotated[Path | None, typer.Option("--bundle", "-b", help="Default: the embedded one.")]
_Neck = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="yolox_nano_coco.onnx; looked for in ../shared/weights by default."),
]
_Clipseg = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="transformers folder with CLIPSeg's weights; random ones by default."
    ),
]
_Peers = Annotated[
    str,
    typer.Option(
        "--peers",
        metavar="NAME,...",
        help="paper, neck, clipseg, spectral-residual, fine-grained, matmul, all or none.",
    ),
]
_Peer = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=FILE",
        help="An ONNX file of your own, name=file.onnx or name=file.onnx:input=1x3x224x224; repeatable.",
    ),
]
_Threads = Annotated[
    str | None, typer.Option(metavar="N,...", help="CPU threads; default: 1 and all that are allowed.")
]
_Quick = Annotated[bool, typer.Option("--quick", help="Few runs: for a first look, not for a result.")]
_Measured = Annotated[
    Path | None,
    typer.Option("--measured", metavar="FILE", help="Measure nothing: take what was measured before."),
]


@app.command()
def peers(
    bundle: _Bundle = None,
    names: _Peers = "all",
    peer: _Peer = None,
    neck: _Neck = None,
    clipseg: _Clipseg = None,
    threads: _Threads = None,
    quick: _Quick = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Also write the record as JSON.")
    ] = None,
) -> None:
    """Time a bundle and its peers in turn: ratios with intervals, GFLOP/s, share of the ceiling."""
    from salgan_edge.benchmarks.peers.text import to_text  # noqa: PLC0415

    settings = _settings(bundle, ("peer",), names, peer, threads, quick=quick)
    if not settings.peers and not settings.peer_files:
        raise typer.BadParameter("none and no --peer leave nothing to compare with", param_hint="--peers")
    _check_place(output)
    record = _measure(settings, neck, clipseg)
    typer.echo(to_text(record.rows))
    _save(record, output)


@app.command()
def parts(
    bundle: _Bundle = None,
    neck: _Neck = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Of each graph at least.")] = 200,
) -> None:
    """What each part of the edge generator takes: its graph cut off after each, timed in turn."""
    from salgan_edge.benchmarks.parts import measure_parts, to_text  # noqa: PLC0415

    from salgan_edge.bundle import Bundle, default_bundle  # noqa: PLC0415

    typer.echo(to_text(measure_parts(Bundle.open(bundle or default_bundle()), threads, neck, runs)))


@app.command()
def trade(
    checkpoints: Annotated[
        list[str], typer.Argument(metavar="[NAME=]CHECKPOINT[@SIZE[@EYE_SCALE]]...", help="One row each.")
    ],
    data: Annotated[Path, typer.Option(help="Folder that holds sjtu_tis and phrases.")],
    text_encoder: Annotated[Path | None, typer.Option(help="Default: the released one.")] = None,
    neck: _Neck = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Of each graph at least.")] = 200,
) -> None:
    """What accuracy costs: generators scored on validation photos and timed in turn, as a Markdown table."""
    from salgan_edge.benchmarks.trade import Candidate, measure_trade, to_markdown  # noqa: PLC0415

    try:
        candidates = [Candidate.parse(spec) for spec in checkpoints]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    rows = measure_trade(
        candidates, data, text_encoder, neck=neck, threads=threads, runs=runs,
        progress=lambda text: typer.echo(text, err=True),
    )  # fmt: skip
    typer.echo(to_markdown(rows))


@app.command()
def gate(
    bundle: _Bundle = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Share by which a ratio may be greater than the committed one.")
    ] = 0.15,
    figures: Annotated[
        bool, typer.Option("--figures", help="Instead: the figures to reach, and which are reached.")
    ] = False,
    names: _Peers = _GATE_PEERS,
    neck: _Neck = None,
    measured: _Measured = None,
    results: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Committed results; default: those beside this module."),
    ] = None,
    quick: _Quick = False,
) -> None:
    """Compare ratios with the committed ones of the nearest machine; exit code 1 where one is worse.

    What is worse is measured a second time, and fails where it is worse in both. Milliseconds are never compared.
    """
    from salgan_edge.benchmarks.record import load  # noqa: PLC0415

    if figures:
        _gate_figures(load(measured) if measured else None, bundle, names, neck, quick=quick)
        return
    from salgan_edge.benchmarks import committed  # noqa: PLC0415
    from salgan_edge.benchmarks.gate import better, checks, compared_groups, to_text  # noqa: PLC0415
    from salgan_edge.benchmarks.machine import machine  # noqa: PLC0415

    from salgan_edge.bundle import Bundle, default_bundle  # noqa: PLC0415

    taken = load(measured) if measured else None
    if taken is not None:
        name = next((entry["name"] for entry in taken.bundles), committed.DEFAULT_NAME)
    else:
        name = Bundle.open(bundle or default_bundle()).manifest.name
    reference = committed.nearest(taken.machine if taken else machine(), results or committed.RESULTS, name)
    typer.echo(
        f"committed: salgan-edge {reference.tool}, {reference.machine['name']}, {reference.date[:10]}",
        err=True,
    )
    groups = compared_groups(reference)
    if not groups:
        raise InputError("the committed results have no ratios: python -m salgan_edge.benchmarks record")
    settings = replace(
        _settings(bundle, groups, names, None, None, quick=quick),
        threads=_common_threads(reference, taken),
    )
    found = checks(reference, taken or _measure(settings, neck, None), tolerance)
    if taken is None and any(check.verdict == "worse" for check in found):
        typer.echo("measuring again what is worse", err=True)
        again = replace(settings, only=_groups_worse(found))
        found = better(found, checks(reference, _measure(again, neck, None), tolerance))
    if not found:
        raise InputError(
            "nothing that both have: compare with results of the same prompts, peers and number of threads"
        )
    typer.echo(to_text(found))
    if any(check.verdict == "worse" for check in found):
        raise typer.Exit(1)


def _groups_worse(found: Sequence[Check]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(check.group for check in found if check.verdict == "worse"))


def _common_threads(reference: Record, taken: Record | None) -> tuple[int, ...]:
    """The numbers of threads that the committed record has and this machine too."""
    from salgan_edge.cpus import allowed_cpus  # noqa: PLC0415

    allowed = int(taken.machine["allowed_cpus"]) if taken else allowed_cpus()
    return tuple(count for count in reference.settings.get("threads", [1]) if count <= allowed) or (1,)


def _gate_figures(
    taken: Record | None, bundle: Path | None, names: str, neck: Path | None, *, quick: bool
) -> None:
    """Print the figures to reach; exit code 1 where one is missed or could not be measured."""
    from salgan_edge.benchmarks.figures import GROUPS, figures, to_text  # noqa: PLC0415

    record = taken or _measure(
        _settings(bundle, GROUPS, names, None, None, quick=quick), neck, None, live=True
    )
    found = figures(record)
    typer.echo(to_text(found))
    if not all(figure.reached for figure in found):
        raise typer.Exit(1)


@app.command()
def record(
    bundle: _Bundle = None,
    names: _Peers = "all",
    neck: _Neck = None,
    clipseg: _Clipseg = None,
    quick: _Quick = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: results/VERSION/MACHINE.json here."),
    ] = None,
) -> None:
    """Measure all that is committed, in some minutes. Nothing else should run meanwhile."""
    from salgan_edge.benchmarks.committed import place_of  # noqa: PLC0415
    from salgan_edge.benchmarks.figures import figures, to_text  # noqa: PLC0415
    from salgan_edge.benchmarks.peers.text import to_text as peers_text  # noqa: PLC0415

    _check_place(output)
    found = _measure(_settings(bundle, (), names, None, None, quick=quick), neck, clipseg, live=True)
    typer.echo(peers_text([row for row in found.rows if row.group == "peer"]))
    typer.echo("")
    typer.echo(to_text(figures(found)))
    _save(found, output or place_of(found))


@app.command()
def table(
    file: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="Markdown with the markers; default: README.md.")
    ] = _README,
    results: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Committed results; default: those beside this module."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: exit code 1 where the file is out of date.")
    ] = False,
) -> None:
    """Write the tables of the newest committed results between the markers of a Markdown file."""
    from salgan_edge.benchmarks.committed import RESULTS, newest  # noqa: PLC0415
    from salgan_edge.benchmarks.table import filled  # noqa: PLC0415

    from salgan_edge.files import writing  # noqa: PLC0415

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}; give a Markdown file") from error
    new = filled(text, newest(results or RESULTS))
    if new == text:
        typer.echo(f"{file} is up to date", err=True)
    elif check:
        typer.echo(f"{file} is out of date: python -m salgan_edge.benchmarks table", err=True)
        raise typer.Exit(1)
    else:
        with writing(file) as temporary:
            temporary.write_text(new, encoding="utf-8")
        typer.echo(str(file), err=True)


def _settings(
    bundle: Path | None,
    groups: tuple[str, ...],
    names: str,
    files: list[str] | None,
    threads: str | None,
    *,
    quick: bool,
) -> Settings:
    """What the options say; on the CPU."""
    from salgan_edge.benchmarks.peers import PEERS  # noqa: PLC0415
    from salgan_edge.benchmarks.settings import Settings, default_threads, parse_numbers  # noqa: PLC0415

    from salgan_edge.bundle import default_bundle  # noqa: PLC0415

    words = [word.strip() for word in names.split(",") if word.strip()]
    chosen = list(PEERS) if words == ["all"] else [] if words == ["none"] else words
    for word in chosen:
        if word not in PEERS:
            expected = ", ".join([*PEERS, "all", "none"])
            raise typer.BadParameter(f"{word!r} is unknown: {expected} were expected", param_hint="--peers")
    try:
        counts = default_threads() if threads is None else parse_numbers(threads)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--threads") from error
    return Settings(
        bundles=(bundle or default_bundle(),),
        devices=("cpu",),
        threads=counts,
        only=groups,
        peers=tuple(dict.fromkeys(chosen)),
        peer_files=tuple(files or ()),
        quick=quick,
    )


def _measure(settings: Settings, neck: Path | None, clipseg: Path | None, *, live: bool = False) -> Record:
    from salgan_edge.benchmarks.whole import measure_whole  # noqa: PLC0415

    shown = ""

    def progress(group: str, share: float) -> None:
        nonlocal shown
        line = f"measuring: {group.replace('_', ' ')} {share:4.0%}"
        if sys.stderr.isatty() and line != shown:
            shown = line
            typer.echo(f"\r\033[K{line}", err=True, nl=False)

    def tell(line: str) -> None:
        clear()
        typer.echo(f"note: {line}", err=True)

    def clear() -> None:
        if shown:
            typer.echo("\r\033[K", err=True, nl=False)

    try:
        with one_line_warnings():
            return measure_whole(
                settings, neck=neck, clipseg_folder=clipseg, live=live, tell=tell, progress=progress
            )
    finally:
        clear()


def _check_place(output: Path | None) -> None:
    """Refuse at once what could not be written after minutes.

    Raises:
        OutputError: it is a folder, or its folder cannot be written.
    """
    from salgan_edge.files import writing  # noqa: PLC0415

    if output is None:
        return
    if output.is_dir():
        raise OutputError(f"{output} is a folder: give the name of a file")
    with contextlib.suppress(_NotYetError), writing(output):
        raise _NotYetError


class _NotYetError(Exception):
    """There is nothing to write yet: the temporary file goes away."""


def _save(record: Record, output: Path | None) -> None:
    from salgan_edge.benchmarks.record import save  # noqa: PLC0415

    if output is not None:
        save(record, output)
        typer.echo(str(output), err=True)


def main() -> None:
    """Run the command line: 0 for success, 1 for an error or a gate that is shut, 2 for wrong usage."""
    show_log(debug=False)
    try:
        app(prog_name="python -m salgan_edge.benchmarks")
    except SalganEdgeError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
