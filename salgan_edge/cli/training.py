"""`salgan-edge train` and `salgan-edge distill`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from salgan_edge.cli.extras import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["distill", "train"]

_PACKAGES = ("torch", "transformers", "safetensors", "onnx", "onnxscript")


def train(
    data: Annotated[
        Path, typer.Option(help="Folder that holds sjtu_tis, clip_text and, if there, osie and scene.")
    ],
    backbone: Annotated[
        Path | None, typer.Option(help="yolox_nano_coco.onnx: initial weights and object detector.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")] = Path("runs/edge"),
    start: Annotated[
        str | None, typer.Option("--from", help="Checkpoint to fine-tune, or 'default' for the released one.")
    ] = None,
    text_encoder: Annotated[
        Path | None, typer.Option(help="Folder of the text encoder; default: the released one.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Photos per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the one-cycle schedule.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the input in pixels, a multiple of 32.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
) -> None:
    """Train the edge generator; the best epoch is OUTPUT/generator.safetensors."""
    with needs("train", *_PACKAGES):
        from salgan_edge.train import released  # noqa: PLC0415
        from salgan_edge.train.config import TrainConfig, changed  # noqa: PLC0415
        from salgan_edge.train.loop import Sources  # noqa: PLC0415
        from salgan_edge.train.loop import train as run  # noqa: PLC0415

    sources = Sources(
        data=data,
        backbone=backbone,
        text_encoder=text_encoder or released.TEXT_ENCODER,
        start=released.GENERATOR if start == "default" else Path(start) if start else None,
    )
    with _usage_errors():
        config = changed(
            TrainConfig(),
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            size=size,
            seed=seed,
        )
    scores = run(sources, output, config, resume=resume)
    typer.echo(f"{output / 'generator.safetensors'}: " + ", ".join(f"{k} {v:.3f}" for k, v in scores.items()))


def distill(
    data: Annotated[Path, typer.Option(help="Folder that holds clip_text and sjtu_tis.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")] = Path("runs/text"),
    tokenizer: Annotated[
        Path | None, typer.Option(help="CLIP's tokenizer.json; default: the released one.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    width: Annotated[int | None, typer.Option(min=4, help="Channels.")] = None,
    layers: Annotated[int | None, typer.Option(min=1)] = None,
) -> None:
    """Distil CLIP text vectors into a compact text encoder, OUTPUT/text_encoder."""
    with needs("train", *_PACKAGES):
        from salgan_edge.train import released  # noqa: PLC0415
        from salgan_edge.train.config import DistillConfig, changed  # noqa: PLC0415
        from salgan_edge.train.distill import distill as run  # noqa: PLC0415

    with _usage_errors():
        config = changed(DistillConfig(), epochs=epochs, width=width, layers=layers)
    scores = run(data, output, tokenizer or released.TEXT_ENCODER / "tokenizer.json", config, resume=resume)
    typer.echo(
        f"{output / 'text_encoder'}: held-out true vectors, "
        + ", ".join(f"{k} {v:.3f}" for k, v in scores.items())
    )


@contextlib.contextmanager
def _usage_errors() -> Iterator[None]:
    """A setting that is refused is wrong usage: exit code 2."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
