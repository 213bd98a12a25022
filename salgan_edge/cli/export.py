"""`salgan-edge export`: checkpoint in, bundle out."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from salgan_edge import contract
from salgan_edge.cli.options import JsonOption, needs
from salgan_edge.console import stoppable
from salgan_edge.errors import DataError

if TYPE_CHECKING:
    from salgan_edge.bundle import Bundle

__all__ = ["export"]

_LARGEST_SIZE = 1024
"""Beyond what training at 256 pixels serves, and within what comparing batches of photos has memory for."""


class _Target(StrEnum):
    web = "web"


class _Precision(StrEnum):
    """The names of `salgan_edge.export.precision.PRECISIONS`, without its imports."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"
    mixed = "mixed"
    auto = "auto"


class _TritonKind(StrEnum):
    auto = "auto"
    gpu = "gpu"
    cpu = "cpu"
    both = "both"


def export(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the bundle, or one file x.salgan.")
    ] = Path("bundle"),
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Generator (.safetensors, or the paper's .pt), or the name of a released one: default, small."
        ),
    ] = None,
    text_encoder: Annotated[
        str | None,
        typer.Option(help="CLIP text model: hub id or local folder; default: the released compact one."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--input-size",
            min=1,
            max=_LARGEST_SIZE,
            help="Side of the generator's input in pixels, a multiple of 32; default: the checkpoint's.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name written into the bundle.")] = None,
    opset: Annotated[
        int,
        typer.Option(
            min=contract.OPSET,
            max=contract.GREATEST_OPSET,
            help="Version of the ONNX operators; above 18 some leave the GPU.",
        ),
    ] = contract.OPSET,
    precision: Annotated[
        _Precision,
        typer.Option(
            help="mixed: int8 text encoder, fp16 generator; auto: the fastest here. What loses accuracy is refused."
        ),
    ] = _Precision.fp32,
    data: Annotated[
        Path | None,
        typer.Option("--gaze", help="Gaze folder that judges a reduced precision; default: fp32 does."),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of your photos to calibrate a reduced precision on.")
    ] = None,
    pack: Annotated[
        bool, typer.Option("--pack", help="Write one file, OUTPUT.salgan, in place of a folder.")
    ] = False,
    target: Annotated[
        _Target | None,
        typer.Option(help="web: also run the graphs in onnxruntime-web (needs Node) and compare."),
    ] = None,
    triton: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write a model repository for Triton Inference Server."),
    ] = None,
    triton_kind: Annotated[
        _TritonKind | None,
        typer.Option(help="Where Triton runs the graphs; auto (default): on GPUs if there are any."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Export a checkpoint as a bundle of ONNX graphs, proven equal to PyTorch.

    salgan-edge export --text-encoder openai/clip-vit-base-patch32 --output my-bundle
    """
    with needs("export", "torch", "transformers", "onnx", "onnxscript", "safetensors"):
        from salgan_edge.export import web  # noqa: PLC0415
        from salgan_edge.export.triton import check_triton_place, write_triton_repository  # noqa: PLC0415
        from salgan_edge.export.write import export_bundle  # noqa: PLC0415
        from salgan_edge.packing import PACKED_SUFFIX  # noqa: PLC0415

    _check_options(precision, data, calibration, triton, triton_kind)

    def report(line: str) -> None:
        typer.echo(line, err=True)

    def prove(bundle: Bundle) -> None:
        if target is _Target.web:
            passed = web.check_web(bundle, report=report)
            worst = max(comparison.difference for comparison in passed)
            report(
                f"onnxruntime-web {web.WEB_VERSION}: {len(passed)} comparisons passed; "
                f"largest difference {worst:.1e} of {web.WEB_TOLERANCE:.0e}"
            )

    # What would fail after minutes of exporting fails now.
    if triton is not None:
        check_triton_place(triton)
    if target is _Target.web:
        web.install_web_runtime(report=report)
    if pack and output.suffix != PACKED_SUFFIX:
        output = output.parent / (output.resolve().name + PACKED_SUFFIX)
    with stoppable():
        bundle = export_bundle(
            output,
            checkpoint,
            text_encoder,
            size=size,
            name=name,
            opset=opset,
            precision=precision.value,
            data=data,
            calibration=calibration,
            command=sys.argv[1:],
            prove=prove,
            report=report,
        )
    size = sum(record.bytes for record in bundle.manifest.files.values())
    made = {"place": str(output), "bundle": bundle.manifest.bundle_id, "bytes": size}
    lines = [f"{output}: bundle {bundle.manifest.bundle_id}, {size / 1e6:.1f} MB"]
    if triton is not None:
        write_triton_repository(bundle, triton, (triton_kind or _TritonKind.auto).value)
        made["triton"] = str(triton)
        lines.append(f"{triton}: Triton model repository of bundle {bundle.manifest.bundle_id}")
    typer.echo(json.dumps(made, ensure_ascii=False) if as_json else "\n".join(lines))


def _check_options(
    precision: _Precision,
    data: Path | None,
    calibration: Path | None,
    triton: Path | None,
    triton_kind: _TritonKind | None,
) -> None:
    """Refuse at once what would fail, or be passed over, after the export.

    Raises:
        DataError: a folder is not there.
    """
    if precision is _Precision.fp32 and (data is not None or calibration is not None):
        raise typer.BadParameter("--gaze and --calibration go with a --precision other than fp32")
    if triton_kind is not None and triton is None:
        raise typer.BadParameter("--triton-kind goes with --triton")
    for option, folder in (("--gaze", data), ("--calibration", calibration)):
        if folder is not None and not folder.is_dir():
            raise DataError(f"{folder} is no folder: give an existing one with {option}")
