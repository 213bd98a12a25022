"""``python -m salgan_edge.export.precision_table``: every precision of a bundle in one table."""

from __future__ import annotations

import json
import sys
from pathlib import Path  # noqa: TC003 - typer reads annotations when it runs
from typing import TYPE_CHECKING, Annotated, Any

import onnx
import typer
from salgan_edge.export.precision import PrecisionReport, compare_precisions, fastest

from salgan_edge import contract
from salgan_edge.bundle import Bundle, default_bundle
from salgan_edge.errors import BundleFormatError, SalganEdgeError
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from salgan_edge.export.precision import Measured

__all__ = ["table", "to_dict"]


def table(rows: Sequence[Measured], reports: Sequence[PrecisionReport]) -> str:
    """The rows, fp32 first, with what there is to say below, in lines of about 120 characters."""
    heading = (
        f"{'precision':<10}{'text MB':>8}{'gen. MB':>8}{'text ms':>9}{'ratio':>7}{'gen. ms':>9}{'ratio':>7}"
        f"{'CC':>8}{'change':>9}{'guide':>8}{'change':>9}{'peaks':>8}  gate"
    )
    lines = [heading]
    first = reports[0].gate
    assert first is not None
    for row in rows:
        speeds = [row.speed[file] for file in (contract.TEXT_ENCODER_FILE, contract.GENERATOR_FILE)]
        gate = row.gate
        costs = (
            f"{first.cc_fp32:>8.4f}{'':>9}{_share(first.guide_fp32):>8}{'':>9}{'':>8}  reference"
            if gate is None
            else f"{gate.cc:>8.4f}{-gate.cc_drop:>+9.4f}{_share(gate.guide):>8}{-gate.guide_drop:>+9.3f}"
            f"{gate.peaks_within:>8.1%}  {'passed' if gate.passed else 'FAILED'}"
        )
        lines.append(
            f"{row.precision:<10}{row.bytes[contract.TEXT_ENCODER_FILE] / 1e6:>8.2f}"
            f"{row.bytes[contract.GENERATOR_FILE] / 1e6:>8.2f}"
            + "".join(f"{speed.median_ms:>9.2f}{speed.ratio:>7.2f}" for speed in speeds)
            + costs
        )
    lines += ["", *_notes(rows, reports)]
    return "\n".join(lines)


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


def to_dict(rows: Sequence[Measured], reports: Sequence[PrecisionReport]) -> dict[str, Any]:
    """The table for programs."""
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
            data=data,
            calibration=calibration,
            threads=threads,
            report=lambda line: typer.echo(line, err=True),
        )
    except SalganEdgeError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    typer.echo(
        json.dumps(to_dict(rows, reports), indent=2, allow_nan=False) if as_json else table(rows, reports)
    )


if __name__ == "__main__":
    typer.run(main)
