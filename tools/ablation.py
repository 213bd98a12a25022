"""What each part of the system buys: the same short training with one part changed at a time.

::

    python -m tools ablation --data ../shared/data --backbone ../shared/weights/yolox_nano_coco.onnx

Every row has the same budget (epochs, photos per step, seed) and is scored on the validation
photos, on the network's own grid. Finished rows are kept in the output folder, so a stopped
command goes on where it was.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from salgan_edge.train import released
from salgan_edge.train.config import TrainConfig, changed, parse_settings
from salgan_edge.train.loop import Sources, train
from salgan_edge.train.networks.backbones import packaged_weights
from salgan_edge.train.validate import POINTING

from salgan_edge.files import writing

__all__ = ["ROWS", "main", "table"]

WITH_TEACHERS = "targets softened by teachers"

ROWS: dict[str, dict[str, Any]] = {
    "default": {},
    "fusion: concatenation (the paper's)": {"fusion": "concat"},
    "fusion: FiLM alone": {"fusion": "film"},
    "fusion: inner products alone": {"fusion": "inner"},
    "text cast to integers, as in the reference": {"text_cast": "integer"},
    "adversarial term, discriminator sees the map": {
        "adversarial": 0.05, "adversarial_warmup": 2, "discriminator": "map",
    },
    "adversarial term, discriminator sees photo and text": {
        "adversarial": 0.05, "adversarial_warmup": 2, "discriminator": "conditional",
    },
    "content loss: binary cross-entropy (the paper's)": {"kl": 0.0, "cc": 0.0, "bce": 1.0},
    "content loss: KL alone": {"cc": 0.0},
    "content loss: with NSS on fixations": {"nss": 0.1},
    "content loss: with contrast between texts": {"contrast": 0.5},
    "object prompts: the middle of the box": {"object_target": "box"},
    "object prompts: gaze within the box": {"object_target": "gaze"},
    "without texts with boxes": {"phrases": False, "composites": 0},
    "without labels.csv": {"without": "labels"},
    "without composites": {"composites": 0},
    "without people side by side": {"without": "ccp"},
    "without ImageNet's photos": {"without": "imagenet1000,tinyimagenet"},
    "without gaze of searchers": {"without": "interiors_search"},
    "each photo of SJTU-TIS once an epoch": {"human_repeats": 1},
    "texts also ask the fine grid": {"fine_keys": True},
    "a second backbone, EfficientNet-Lite0": {"eyes": "lite0"},
    "a second backbone, texts ask the fine grid": {"eyes": "lite0", "fine_keys": True},
    "the same, its view 7/8 as large": {"eyes": "lite0", "fine_keys": True, "eye_scale": 0.875},
    "the same, its view 3/4 as large": {"eyes": "lite0", "fine_keys": True, "eye_scale": 0.75},
    "without object prompts": {"object_weight": 0.0},
    "without the free-viewing sets": {"extra_data": False},
    "backbone frozen": {"backbone_rate": 0.0},
    "backbone at 0.3 of the rate": {"backbone_rate": 0.3},
    "stronger augmentation": {
        "augment": 0.8, "crop": 0.3, "zoom_out": 0.15, "rotation": 6.0, "stretch": 0.2,
    },
    "without augmentation of the photo": {"augment": 0.0, "colour": 0.0},
    "noise on text vectors, dropped words": {"drop_words": 0.4, "text_noise": 0.02},
}  # fmt: skip
"""Name of each row and the settings in which it differs from the default recipe."""

_COLUMNS = ("all", "pure", "whole", "general", "salient", "nonsalient", "guide", *POINTING)


def table(scores: dict[str, dict[str, float]]) -> str:
    """Rows of validation scores as a Markdown table; columns that no row has are left out."""
    columns = [key for key in _COLUMNS if any(key in row for row in scores.values())]
    lines = [f"| | {' | '.join(columns)} |", f"|---{'|---' * len(columns)}|"]
    for name, row in scores.items():
        cells = (f"{row[key]:.3f}" if key in row else "" for key in columns)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(
    data: Annotated[Path, typer.Option(help="Folder that holds sjtu_tis, clip_text, osie and scene.")],
    backbone: Annotated[Path, typer.Option(help="yolox_nano_coco.onnx.")],
    text_encoder: Annotated[Path | None, typer.Option(help="Default: the released one.")] = None,
    teacher: Annotated[list[Path] | None, typer.Option(help="Teachers for one more row; repeatable.")] = None,
    start: Annotated[Path | None, typer.Option("--from", help="Checkpoint that all rows go on from.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("runs/ablation"),
    epochs: Annotated[int, typer.Option(min=1)] = 8,
    only: Annotated[list[str] | None, typer.Option(help="Rows whose name contains this; repeatable.")] = None,
    common: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of all rows; repeatable."),
    ] = None,
    accelerator: Annotated[str, typer.Option()] = "auto",
) -> None:
    """Train and score each row, and print the table."""
    sources = Sources(
        data, text_encoder or released.TEXT_ENCODER, backbone, eyes=packaged_weights(), start=start
    )
    base = changed(TrainConfig(), **parse_settings(common or []), epochs=epochs)
    scores: dict[str, dict[str, float]] = {}
    rows = {**ROWS, WITH_TEACHERS: {}} if teacher else ROWS
    for name, settings in rows.items():
        if only and not any(part in name for part in only):
            continue
        folder = output / "-".join(re.findall(r"\w+", name))
        result = folder / "row.json"
        if not result.exists():
            typer.echo(f"{name}: {settings}", err=True)
            # The last epoch counts, not the best: choosing would favour rows that vary more.
            config = changed(base, **settings)
            teachers = tuple(teacher or ()) if name == WITH_TEACHERS else ()
            train(
                dataclasses.replace(sources, teachers=teachers),
                folder,
                config,
                resume=True,
                accelerator=accelerator,
            )
            last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
            with writing(result) as temporary:
                temporary.write_text(json.dumps({"name": name, "settings": settings, **last}, indent=2))
        scores[name] = json.loads(result.read_text())["validation"]
    typer.echo(table(scores))
