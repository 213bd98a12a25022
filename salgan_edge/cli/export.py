"""`salgan-edge export`: checkpoint in, bundle out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from salgan_edge.cli.extras import needs

__all__ = ["export"]


def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the bundle.")] = Path("bundle"),
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Generator (.safetensors, or the paper's .pt); default: the released one."),
    ] = None,
    text_encoder: Annotated[
        str | None,
        typer.Option(help="CLIP text model: hub id or local folder; default: the released compact one."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Side of the generator's input in pixels; default: the checkpoint's."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name written into the bundle.")] = None,
) -> None:
    """Export a checkpoint as a bundle of ONNX graphs, proven equal to PyTorch.

    salgan-edge export --text-encoder openai/clip-vit-base-patch32 --output my-bundle
    """
    with needs("export", "torch", "transformers", "onnx", "onnxscript", "safetensors"):
        from salgan_edge.export.write import export_bundle  # noqa: PLC0415

    bundle = export_bundle(
        output, checkpoint, text_encoder, size=size, name=name, report=lambda line: typer.echo(line, err=True)
    )
    size = sum(record.bytes for record in bundle.manifest.files.values())
    typer.echo(f"{output}: bundle {bundle.manifest.bundle_id}, {size / 1e6:.1f} MB")
