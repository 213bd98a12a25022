"""Precision variants of an export: made, judged, and only handed out when they pass.

==========  =====================================  ==========================================
precision   text encoder                           generator
==========  =====================================  ==========================================
``fp32``    as exported                            as exported
``fp16``    float16 inside                         float16 inside
``int8``    int8 weights and embeddings            static int8; layers that it hurts in float
``mixed``   int8 weights and embeddings            float16 inside
``auto``    the fastest on this machine of those that pass; ``fp32`` where none is faster
==========  =====================================  ==========================================

Inputs and outputs are the contract's in every variant. ``python -m salgan_edge.export.precision`` measures all of
them and prints one table.
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import onnx
import typer
from rich.console import Console
from rich.table import Table
from salgan_edge.export.gate import GateResult, Limits, read_views
from salgan_edge.export.variants import REDUCED, Variant, Workbench, told

from salgan_edge import contract
from salgan_edge.bundle import Bundle, default_bundle
from salgan_edge.devices import Execution
from salgan_edge.errors import BundleFormatError, PrecisionError, SalganEdgeError
from salgan_edge.session import GraphSession
from salgan_edge.timing import interleave, random_photo, random_texts, ratio_interval
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    from salgan_edge.export.quantise import LayerCost
    from salgan_edge.export.variants import Graphs

__all__ = [
    "PRECISIONS",
    "Measured",
    "PrecisionReport",
    "Processor",
    "Speed",
    "apply_precision",
    "compare_precisions",
    "fastest",
    "read_processor",
    "render_table",
    "table_to_dict",
]

_CPUINFO = Path("/proc/cpuinfo")
_DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "asimddp")
"""Flags of instructions that multiply and add bytes: VNNI on x86, the dot product on Arm."""


@dataclass(frozen=True)
class Processor:
    """The processor that something was measured on."""

    model: str
    """``unknown`` where the system does not say."""
    vnni: bool | None
    """Whether it multiplies and adds bytes in one instruction; None where the system does not say."""

    @property
    def told(self) -> str:
        """In words, for tables."""
        words = {True: "with VNNI", False: "without VNNI", None: "VNNI unknown"}
        return f"{self.model}, {words[self.vnni]}"


def read_processor(path: Path = _CPUINFO) -> Processor:
    """The processor by ``/proc/cpuinfo``, where there is one."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Processor("unknown", None)
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags", fields.get("Features"))
    vnni = None if flags is None else bool(set(flags.split()) & set(_DOT_PRODUCTS))
    return Processor(fields.get("model name") or fields.get("Model") or "unknown", vnni)


PRECISIONS = ("fp32", *REDUCED, "auto")

_NOISE = 0.03
"""Ratios of times closer to 1 than this say nothing."""
_RUNS, _BLOCKS, _SECONDS = 30, 6, 60.0
"""Of each graph that is timed: runs, in blocks, at least; and seconds of all together, at most."""
_SIZE = 256
"""Side in pixels of the photo that generators are timed with."""
_START_TOKEN, _END_TOKEN = 49406, 49407

_NAMED = 5
_WIDTH = 140
"""Columns of the table's lines at most, whatever the terminal."""


@dataclass(frozen=True)
class Speed:
    """Time of a graph beside that of fp32, both in one run, in turn."""

    median_ms: float
    """One photo and one text, or one text."""
    ratio: float
    """To fp32: below 1 is faster."""


@dataclass(frozen=True)
class Measured:
    """A row of the table of variants."""

    precision: str
    bytes: dict[str, int]
    """Of each graph, by file."""
    speed: dict[str, Speed]
    """Likewise."""
    gate: GateResult | None
    """None for fp32, which is the reference."""

    @property
    def passed(self) -> bool:
        """Whether it may be published."""
        return self.gate is None or self.gate.passed

    def to_dict(self) -> dict[str, Any]:
        """All figures, for reports."""
        return {
            "precision": self.precision,
            "passed": self.passed,
            "bytes": self.bytes,
            "speed": {file: asdict(speed) for file, speed in self.speed.items()},
            "gate": None if self.gate is None else self.gate.to_dict(),
        }


@dataclass(frozen=True)
class PrecisionReport:
    """How a reduced precision came about and what it costs."""

    precision: str
    """Of the graphs: ``fp32``, ``fp16``, ``int8`` or ``mixed``."""
    asked: str
    """What was asked for: the same, or ``auto``."""
    gate: GateResult | None
    """None for fp32."""
    photos: str
    """Where the photos of calibration and gate come from."""
    calibration_photos: int
    ranges: str | None
    """How ranges of int8 activations were found; None where there are none."""
    weight_bits: int | None
    """8, or 7 for processors without VNNI; None where the generator is not int8."""
    layers: int
    """Weighted layers of the generator between its first operations and its last."""
    in_float: tuple[str, ...]
    """Those that stay in float32."""
    layers_that_hurt: tuple[LayerCost, ...]
    """The ten layers that int8 alone hurts most; empty where none is int8."""
    bytes: dict[str, int]
    """Of each graph, by file."""
    bytes_fp32: dict[str, int]
    processor: Processor
    """Of the machine that this was measured on."""
    compared: tuple[Measured, ...]
    """What ``auto`` chose from; empty otherwise."""

    @property
    def passed(self) -> bool:
        """Whether the gate was passed."""
        return self.gate is None or self.gate.passed

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for ``report.json``."""
        return {
            "passed": self.passed,
            "precision": self.precision,
            "asked": self.asked,
            "gate": None if self.gate is None else self.gate.to_dict(),
            "photos": self.photos,
            "calibration_photos": self.calibration_photos,
            "ranges": self.ranges,
            "weight_bits": self.weight_bits,
            "layers": self.layers,
            "in_float": list(self.in_float),
            "layers_that_hurt": [asdict(cost) for cost in self.layers_that_hurt],
            "bytes": self.bytes,
            "bytes_fp32": self.bytes_fp32,
            "processor": asdict(self.processor),
            "compared": [measured.to_dict() for measured in self.compared],
        }


def apply_precision(
    graphs: Graphs,
    precision: str,
    tokenizer: ClipTokenizer,
    *,
    size: tuple[int, int] | None = None,
    data: Path | None = None,
    calibration: Path | None = None,
    limits: Limits | None = None,
    report: Callable[[str], None] = lambda _line: None,
) -> tuple[Graphs, PrecisionReport | None]:
    """The graphs in a precision, with what that costs.

    Args:
        graphs: both graphs in fp32, by file, before they are signed.
        precision: one of `PRECISIONS`.
        tokenizer: of the text encoder.
        size: height and width in pixels of the generator's input, which photos are fitted to as in
            `SaliencyPredictor.predict`; None gives them to the graph as they are.
        data: packed gaze folder; without it the fp32 maps are the reference.
        calibration: folder of photos like those of the application.
        limits: what a variant may lose; `Limits` where None.
        report: called with a line for each step.

    Returns:
        New graphs and a report; `graphs` themselves and None for ``fp32``.

    Raises:
        PrecisionError: the variant loses more than `limits` allow, or there is no such precision.
        DataError: `data` or `calibration` cannot be used.
    """
    if precision not in PRECISIONS:
        raise PrecisionError(f"precision {precision!r} is unknown: {', '.join(PRECISIONS)} were expected")
    if precision == "fp32":
        return graphs, None
    bench, processor = _bench(graphs, tokenizer, size, data, calibration, limits, report)
    if precision != "auto":
        variant = bench.make(precision)
        if not variant.gate.passed:
            raise PrecisionError(_refusal(variant))
        report(f"{precision}: {told(variant.gate)}")
        return variant.graphs, _report(bench, graphs, variant, precision, processor, ())
    variants = [bench.make(kind) for kind in REDUCED]
    rows = _measured(graphs, variants)
    chosen = fastest(rows)
    report(f"auto chose {chosen}: " + "; ".join(_speed_told(row) for row in rows))
    variant_chosen = next((variant for variant in variants if variant.precision == chosen), None)
    told_report = _report(bench, graphs, variant_chosen, "auto", processor, tuple(rows))
    return (graphs if variant_chosen is None else variant_chosen.graphs), told_report


def compare_precisions(
    graphs: Graphs,
    tokenizer: ClipTokenizer,
    *,
    size: tuple[int, int] | None = None,
    data: Path | None = None,
    calibration: Path | None = None,
    limits: Limits | None = None,
    threads: int = 1,
    report: Callable[[str], None] = lambda _line: None,
) -> tuple[list[Measured], list[PrecisionReport]]:
    """fp32 and every variant, whether it passes or not: sizes, times and costs.

    Args:
        graphs: both graphs in fp32, by file.
        tokenizer: of the text encoder.
        size: height and width in pixels of the generator's input, which photos are fitted to as in
            `SaliencyPredictor.predict`; None gives them to the graph as they are.
        data: packed gaze folder; without it the fp32 maps are the reference.
        calibration: folder of photos like those of the application.
        limits: what a variant may lose; `Limits` where None.
        threads: CPU threads that times are taken with.
        report: called with a line for each step.

    Returns:
        Rows, fp32 first, and the report of each reduced precision.

    Raises:
        DataError: `data` or `calibration` cannot be used.
    """
    bench, processor = _bench(graphs, tokenizer, size, data, calibration, limits, report)
    variants = [bench.make(kind) for kind in REDUCED]
    report("timing")
    rows = _measured(graphs, variants, threads)
    return rows, [_report(bench, graphs, v, v.precision, processor, ()) for v in variants]


def fastest(rows: Sequence[Measured]) -> str:
    """The precision whose generator is fastest among those that pass and are nowhere slower than fp32.

    Times are noisy: a variant must be faster by 3 % for the generator, which runs for every frame,
    and may not be slower by as much for the text encoder.
    """
    chosen, best = "fp32", 1 - _NOISE
    for row in rows:
        generator, text = row.speed[contract.GENERATOR_FILE], row.speed[contract.TEXT_ENCODER_FILE]
        if row.passed and generator.ratio < best and text.ratio <= 1 + _NOISE:
            chosen, best = row.precision, generator.ratio
    return chosen


def _bench(
    graphs: Graphs,
    tokenizer: ClipTokenizer,
    size: tuple[int, int] | None,
    data: Path | None,
    calibration: Path | None,
    limits: Limits | None,
    report: Callable[[str], None],
) -> tuple[Workbench, Processor]:
    processor = read_processor()
    views = read_views(data, calibration)
    if size is not None:
        views = views.fit(*size)
    report(f"calibration on {len(views.calibration)} photos, gate on {len(views.gate)}: {views.source}")
    # Sums of 8-bit weights saturate where there is no VNNI: where that is not known, 7 bits are safe.
    reduce_range = not processor.vnni
    bench = Workbench(graphs, tokenizer, views, limits or Limits(), reduce_range=reduce_range, report=report)
    return bench, processor


def _report(
    bench: Workbench,
    graphs: Mapping[str, onnx.ModelProto],
    variant: Variant | None,
    asked: str,
    processor: Processor,
    compared: tuple[Measured, ...],
) -> PrecisionReport:
    generator_int8 = variant is not None and variant.ranges is not None
    return PrecisionReport(
        precision="fp32" if variant is None else variant.precision,
        asked=asked,
        gate=None if variant is None else variant.gate,
        photos=bench.views.source,
        calibration_photos=len(bench.views.calibration),
        ranges=None if variant is None else variant.ranges,
        weight_bits=None if not generator_int8 else 7 if bench.reduce_range else 8,
        layers=0 if variant is None else variant.layers,
        in_float=() if variant is None else variant.in_float,
        layers_that_hurt=() if variant is None else variant.costs[:10],
        bytes=_bytes(graphs if variant is None else variant.graphs),
        bytes_fp32=_bytes(graphs),
        processor=processor,
        compared=compared,
    )


def _refusal(variant: Variant) -> str:
    hurting = ", ".join(f"{cost.layer} ({cost.loss:.4f})" for cost in variant.costs[:_NAMED])
    layers = f"; layers that hurt (1 - CC of each alone): {hurting}" if hurting else ""
    advice = "use --precision fp16 or fp32" if variant.precision == "int8" else "use --precision fp32"
    return (
        f"{variant.precision} loses too much on {variant.gate.pairs} pairs against {variant.gate.reference}: "
        f"{'; '.join(variant.gate.failures)}{layers}; nothing was written. Give photos like yours with --calibration, or {advice}"
    )


def _measured(graphs: Graphs, variants: Sequence[Variant], threads: int = 1) -> list[Measured]:
    """Rows of fp32 and the variants, timed in turn in one run."""
    pairs: dict[str, Graphs] = {"fp32": graphs, **{variant.precision: variant.graphs for variant in variants}}
    gates = {variant.precision: variant.gate for variant in variants}
    runs = {
        f"{precision} {file}": _run_of(file, graph, threads)
        for precision, pair in pairs.items()
        for file, graph in pair.items()
    }
    stats = interleave(runs, min_runs=_RUNS, min_blocks=_BLOCKS, max_seconds=_SECONDS)
    return [
        Measured(
            precision,
            _bytes(pair),
            {
                file: Speed(
                    stats[f"{precision} {file}"].median_ms,
                    ratio_interval(stats[f"{precision} {file}"].blocks, stats[f"fp32 {file}"].blocks).ratio,
                )
                for file in pair
            },
            gates.get(precision),
        )
        for precision, pair in pairs.items()
    ]


def _run_of(file: str, graph: onnx.ModelProto, threads: int) -> Callable[[], object]:
    """A run of a graph on the CPU: a photo and a text for the generator, a text for the text encoder."""
    session = GraphSession(graph.SerializeToString(), Execution("cpu", threads), name=file)
    inputs: dict[str, npt.NDArray[Any]]
    if file == contract.TEXT_ENCODER_FILE:
        ids = np.full((1, contract.CONTEXT_LENGTH), _END_TOKEN, np.int64)
        ids[0, :11] = [_START_TOKEN, *np.random.default_rng(0).integers(256, 40_000, 10)]
        output, inputs = contract.TEXT_EMBEDDING, {contract.INPUT_IDS: ids}
    else:
        dimension = graph.graph.input[1].type.tensor_type.shape.dim[-1].dim_value
        output = contract.SALIENCY
        inputs = {
            contract.IMAGE: random_photo(_SIZE)[None],
            contract.TEXT_EMBEDDING: random_texts(1, dimension)[None],
        }
    return lambda: session.run(output, inputs)


def _bytes(graphs: Mapping[str, onnx.ModelProto]) -> dict[str, int]:
    return {file: graph.ByteSize() for file, graph in graphs.items()}


def _speed_told(row: Measured) -> str:
    state = "" if row.passed else ", fails the gate"
    return f"{row.precision} generator {row.speed[contract.GENERATOR_FILE].ratio:.2f} of fp32's time{state}"


def render_table(rows: Sequence[Measured], reports: Sequence[PrecisionReport]) -> str:
    """The rows, fp32 first, with what there is to say below, in lines of about 120 characters."""
    first = reports[0].gate
    assert first is not None
    table = Table("precision", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in (
        "text MB", "gen. MB", "text ms", "ratio", "gen. ms", "ratio", "CC", "change", "guide", "change", "peaks",
    ):  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("gate", no_wrap=True)
    for row in rows:
        files, gate = (contract.TEXT_ENCODER_FILE, contract.GENERATOR_FILE), row.gate
        speeds = [row.speed[file] for file in files]
        times = [cell for speed in speeds for cell in (f"{speed.median_ms:.2f}", f"{speed.ratio:.2f}")]
        costs = (
            [f"{first.cc_fp32:.4f}", "", _share(first.guide_fp32), "", "", "reference"]
            if gate is None
            else [f"{gate.cc:.4f}", f"{-gate.cc_drop:+.4f}", _share(gate.guide), f"{-gate.guide_drop:+.3f}",
                  f"{gate.peaks_within:.1%}", "passed" if gate.passed else "FAILED"]
        )  # fmt: skip
        table.add_row(row.precision, *(f"{row.bytes[file] / 1e6:.2f}" for file in files), *times, *costs)
    console = Console(file=io.StringIO(), width=_WIDTH)
    with console.capture() as drawn:
        console.print(table)
    return "\n".join([drawn.get().rstrip(), "", *_notes(rows, reports)])


def _notes(rows: Sequence[Measured], reports: Sequence[PrecisionReport]) -> list[str]:
    gate = reports[0].gate
    assert gate is not None
    processor = reports[0].processor
    judged = (
        f"CC and guide are against {gate.reference}: {gate.photos} photos, {gate.pairs} pairs, "
        f"{gate.guide_pairs} pairs of texts for guide. "
        f"peaks: share that moved by at most {gate.limits.peak_move:.0%} of the diagonal."
    )
    timed = (
        f"Times: medians of interleaved runs on {processor.told}; one photo and one text. Ratios are to fp32."
    )
    notes = [judged, f"Photos: {reports[0].photos}.", timed]
    for row in rows:
        if row.gate is not None and not row.gate.passed:
            notes.append(f"{row.precision} fails: {'; '.join(row.gate.failures)}.")
        ratio = row.speed[contract.GENERATOR_FILE].ratio
        if row.precision == "int8" and ratio > 1:
            notes.append(f"int8 is slower than float here ({ratio:.2f} of its time; {processor.told}).")
    for report in reports:
        if report.layers_that_hurt:
            hurting = ", ".join(f"{cost.layer} {cost.loss:.4f}" for cost in report.layers_that_hurt[:5])
            notes.append(
                f"{report.precision}: {report.weight_bits}-bit weights, {len(report.in_float)} of {report.layers} layers in float; "
                f"layers that hurt (1 - CC of each alone): {hurting}."
            )
    notes.append(f"auto would choose {fastest(rows)} here.")
    return notes


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def table_to_dict(rows: Sequence[Measured], reports: Sequence[PrecisionReport]) -> dict[str, Any]:
    """The render_table for programs."""
    return {
        "format_version": 1,
        "rows": [row.to_dict() for row in rows],
        "reports": {report.precision: report.to_dict() for report in reports},
        "auto": fastest(rows),
    }


def main(
    bundle: Annotated[Path | None, typer.Option("--bundle", "-b", help="Default: the embedded one.")] = None,
    data: Annotated[Path | None, typer.Option(help="Gaze folder whose validation photos judge.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="Folder of photos like yours.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads that times are taken with.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Sizes, times and costs of every precision of an fp32 bundle, on this machine."""
    try:
        opened = Bundle.open(bundle or default_bundle())
        if opened.manifest.precision != "fp32":
            raise BundleFormatError(
                f"{opened.manifest.name} is {opened.manifest.precision}: an fp32 bundle was expected, since the others are made of it"
            )
        files = (contract.TEXT_ENCODER_FILE, contract.GENERATOR_FILE)
        rows, reports = compare_precisions(
            {file: onnx.load(opened.path(file)) for file in files},
            ClipTokenizer(opened.path(contract.TOKENIZER_FILE)),
            size=opened.manifest.input_size,
            data=data,
            calibration=calibration,
            threads=threads,
            report=lambda line: typer.echo(line, err=True),
        )
    except SalganEdgeError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    typer.echo(
        json.dumps(table_to_dict(rows, reports), indent=2, allow_nan=False)
        if as_json
        else render_table(rows, reports)
    )


if __name__ == "__main__":
    typer.run(main)
