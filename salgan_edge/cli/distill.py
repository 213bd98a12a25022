"""`salgan-edge distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from salgan_edge.cli.options import needs, usage_errors

__all__ = ["distill"]

_PACKAGES = ("torch", "transformers", "safetensors", "onnx", "onnxscript")


def distill(
    data: Annotated[
        Path, typer.Option(help="Folder that holds clip_text, gaze folders such as sjtu_tis, and phrases.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")] = Path("runs/text"),
    teacher: Annotated[
        str,
        typer.Option(
            "--clip-model",
            help="'precomputed' for the vectors in clip_text, or a CLIP text model: hub id or local folder.",
        ),
    ] = "precomputed",
    sentence_model: Annotated[
        Path | None,
        typer.Option(
            help="With precomputed vectors: transformers folder of a sentence model (all-MiniLM-L6-v2) that "
            "estimates the vectors of further phrases."
        ),
    ] = None,
    texts: Annotated[Path | None, typer.Option(help="File of further texts to learn, one per line.")] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="CLIP's tokenizer.json; default: the teacher's, or the released one."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Texts per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the one-cycle schedule.")] = None,
    width: Annotated[int | None, typer.Option(min=4, help="Channels.")] = None,
    layers: Annotated[int | None, typer.Option(min=1)] = None,
    held_out: Annotated[
        float | None,
        typer.Option(min=0, max=0.9, help="Share of the names kept for measuring; 0 teaches all."),
    ] = None,
    bfloat16: Annotated[
        bool | None,
        typer.Option(
            "--bfloat16", help="Half the time on CPUs with bfloat16 instructions.", show_default=False
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option()] = None,
) -> None:
    """Distil CLIP text vectors into a compact text encoder, OUTPUT/text_encoder."""
    with needs("train", *_PACKAGES):
        from salgan_edge.train import released  # noqa: PLC0415
        from salgan_edge.train.config import DistillConfig, changed  # noqa: PLC0415
        from salgan_edge.train.distill import Teaching  # noqa: PLC0415
        from salgan_edge.train.distill import distill as run  # noqa: PLC0415

    with usage_errors():
        config = changed(
            DistillConfig(), teacher=teacher, epochs=epochs, batch_size=batch_size,
            learning_rate=learning_rate, width=width, layers=layers, seed=seed,
            held_out=held_out, bfloat16=bfloat16,
            sentence_model=str(sentence_model) if sentence_model else None,
        )  # fmt: skip
    teaching = Teaching(data, texts=texts, tokenizer=tokenizer or released.TEXT_ENCODER / "tokenizer.json")
    scores = run(teaching, output, config, resume=resume)
    figures = ", ".join(f"{k} {v:.3f}" for k, v in scores.items())
    typer.echo(f"{output / 'text_encoder'}: held-out vectors, {figures or 'none'}")
