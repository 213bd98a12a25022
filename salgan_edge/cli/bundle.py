"""`salgan-edge bundle`: bundles in one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from salgan_edge.bundle import Bundle

__all__ = ["app"]

app = typer.Typer(
    name="bundle",
    help="Bundles: pack a folder into one file, unpack it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def pack(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, or another file.")],
    file: Annotated[Path, typer.Argument(help="File to write, such as x.salgan.")],
    without_text_encoder: Annotated[
        bool,
        typer.Option(
            "--without-text-encoder",
            help="Leave out text encoder and tokenizer: for free viewing, and prompts of salgan-edge bake.",
        ),
    ] = False,
) -> None:
    """Pack a bundle into one file, which every --bundle takes as it is.

    salgan-edge bundle pack my-bundle my-bundle.salgan
    """
    from salgan_edge import packing  # noqa: PLC0415
    from salgan_edge.bundle import Bundle  # noqa: PLC0415

    _tell(packing.pack(Bundle.open(bundle), file, without_text_encoder=without_text_encoder))


@app.command()
def unpack(
    file: Annotated[Path, typer.Argument(help="File of salgan-edge bundle pack.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write; an older bundle there is replaced.")],
) -> None:
    """Unpack a one-file bundle into a folder.

    salgan-edge bundle unpack my-bundle.salgan my-bundle
    """
    from salgan_edge import packing  # noqa: PLC0415

    _tell(packing.unpack(file, folder))


def _tell(bundle: Bundle) -> None:
    size = sum(record.bytes for record in bundle.manifest.files.values())
    typer.echo(f"{bundle.place}: bundle {bundle.manifest.bundle_id}, {size / 1e6:.1f} MB")
