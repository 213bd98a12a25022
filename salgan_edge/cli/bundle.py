"""`salgan-edge bundle`: bundles in one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from salgan_edge.cli.options import BundleOption, JsonOption, one_bundle

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
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="[BUNDLE] FILE", help="Bundle (default if none), and the file to write: x.salgan."
        ),
    ],
    bundle: BundleOption = None,
    without_text_encoder: Annotated[
        bool,
        typer.Option(
            "--without-text-encoder",
            help="Leave out text encoder and tokenizer: for free viewing, and prompts of salgan-edge bake.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Pack a bundle into one file, which every --bundle takes as it is.

    salgan-edge bundle pack my-bundle my-bundle.salgan
    """
    from salgan_edge import packing  # noqa: PLC0415
    from salgan_edge.bundle import EMBEDDED, Bundle, bundle_place  # noqa: PLC0415

    if len(places) > 2:
        raise typer.BadParameter(f"{len(places)} places were given: a bundle and a file were expected")
    if len(places) == 1 and (places[0].is_dir() or str(places[0]) in EMBEDDED):
        raise typer.BadParameter(
            f"{places[0]} is a bundle: name the file to write, such as x.salgan, after it"
        )
    source = one_bundle(places[0] if len(places) == 2 else None, bundle)
    opened = Bundle.open(bundle_place(source))
    _tell(packing.pack(opened, places[-1], without_text_encoder=without_text_encoder), as_json=as_json)


@app.command()
def unpack(
    file: Annotated[Path, typer.Argument(help="File of salgan-edge bundle pack.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write; an older bundle there is replaced.")],
    as_json: JsonOption = False,
) -> None:
    """Unpack a one-file bundle into a folder.

    salgan-edge bundle unpack my-bundle.salgan my-bundle
    """
    from salgan_edge import packing  # noqa: PLC0415

    _tell(packing.unpack(file, folder), as_json=as_json)


def _tell(bundle: Bundle, *, as_json: bool) -> None:
    size = sum(record.bytes for record in bundle.manifest.files.values())
    if as_json:
        report = {"place": str(bundle.place), "bundle": bundle.manifest.bundle_id, "bytes": size}
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        typer.echo(f"{bundle.place}: bundle {bundle.manifest.bundle_id}, {size / 1e6:.1f} MB")
