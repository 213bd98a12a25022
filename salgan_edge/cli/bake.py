"""`salgan-edge bake`: texts in, a prompt pack out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from salgan_edge.cli.options import (
    BundleOption,
    DeviceName,
    DeviceOption,
    JsonOption,
    ProviderOptions,
    StrictOption,
    ThreadsOption,
    execution_of,
)
from salgan_edge.console import one_line_warnings
from salgan_edge.errors import InputError, OutputError, PromptError

__all__ = ["bake"]


def bake(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to encode.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A file of more texts, one a line, in UTF-8.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Prompt pack to write; an older one is replaced.")
    ] = Path("prompts.npz"),
    bundle: BundleOption = None,
    device: DeviceOption = DeviceName.cpu,
    threads: ThreadsOption = None,
    strict: StrictOption = False,
    provider_option: ProviderOptions = None,
    as_json: JsonOption = False,
) -> None:
    """Encode texts now, so that predict --prompt-pack needs no text encoder.

    salgan-edge bake "a man in a raincoat" "white lamps" --output prompts.npz
    """
    if output.suffix.lower() != ".npz":
        raise typer.BadParameter(
            f"{output} has not the suffix of a prompt pack: .npz was expected", param_hint="--output"
        )
    if not texts and file is None:
        raise typer.BadParameter("give at least one text, or --file", param_hint="TEXT")
    from salgan_edge.predictor import SaliencyPredictor  # noqa: PLC0415

    execution = execution_of(device.value, threads, strict, provider_option)
    wanted = [*(texts or []), *(_lines(file) if file else [])]
    _check_older(output)
    with one_line_warnings():
        pack = SaliencyPredictor.load(bundle, execution=execution).bake(list(dict.fromkeys(wanted)))
    pack.save(output)
    plural = "" if len(pack.texts) == 1 else "s"
    if as_json:
        report = {"file": str(output), "texts": list(pack.texts), "bundle": pack.bundle_id}
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        typer.echo(f"{output}: {len(pack.texts)} text{plural} of bundle {pack.bundle_id}")


def _lines(file: Path) -> list[str]:
    """The texts of a file; empty lines are none."""
    try:
        content = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(f"{file} is not in UTF-8: a text on each line was expected") from error
    except OSError as error:
        raise PromptError(f"{file} cannot be read: {error.strerror or error}") from error
    lines = [line.strip() for line in content.splitlines()]
    if not any(lines):
        raise PromptError(f"{file} holds no texts: one on each line was expected")
    return [line for line in lines if line]


def _check_older(output: Path) -> None:
    """Only an older prompt pack is replaced: other data have the same suffix."""
    from salgan_edge.prompts import PromptPack  # noqa: PLC0415

    if not output.exists():
        return
    try:
        PromptPack.load(output)
    except InputError as error:
        raise OutputError(
            f"{output} is no prompt pack that may be replaced: give another --output"
        ) from error
