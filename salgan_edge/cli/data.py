"""`salgan-edge data`: pack data sets of gaze or of texts with boxes, and see what a packed folder holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from salgan_edge.cli.options import JsonOption, usage_errors
from salgan_edge.console import progress
from salgan_edge.errors import DataError
from salgan_edge.gaze.prepare import BoxForm, BoxUnit, Columns, LayoutName, PrepareOptions, SplitChoice

__all__ = ["app"]

app = typer.Typer(
    name="data",
    help="Data of human gaze and of texts with boxes: pack sets, see what a packed folder holds.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def prepare(
    source: Annotated[
        Path, typer.Argument(help="Folder of the data set as published, or a file of texts with boxes.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Packed folder to write.")],
    layout: Annotated[
        LayoutName,
        typer.Option(
            help="How the source is laid out; folder: images beside maps; coco and after it: texts with boxes."
        ),
    ] = LayoutName.auto,
    images: Annotated[Path | None, typer.Option(help="Folder of photos; default: by usual names.")] = None,
    maps: Annotated[Path | None, typer.Option(help="Folder of saliency maps; likewise.")] = None,
    fixations: Annotated[Path | None, typer.Option(help="Folder of fixations; likewise.")] = None,
    texts: Annotated[Path | None, typer.Option(help="SJTU-TIS's texts: .json, .csv or .xlsx.")] = None,
    image_column: Annotated[
        str | None, typer.Option(help="Column of image names in a table of texts.")
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of texts.")] = None,
    condition_column: Annotated[str | None, typer.Option(help="Column of conditions, if any.")] = None,
    box_unit: Annotated[
        BoxUnit, typer.Option(help="Boxes of a .csv in pixels or in shares of the sides; auto: by value.")
    ] = BoxUnit.auto,
    box_form: Annotated[
        BoxForm, typer.Option(help="x0,y0,x1,y1 (corners) or x,y,width,height (sizes); auto: by column.")
    ] = BoxForm.auto,
    split: Annotated[
        SplitChoice,
        typer.Option(
            help="auto: the set's own (folders train, val, test; lists; a column), else 70/15/15 by rule; or all photos in one."
        ),
    ] = SplitChoice.auto,
    max_side: Annotated[int, typer.Option(min=32, help="Longest side of photos in pixels.")] = 512,
    blur: Annotated[
        float | None,
        typer.Option(help="One degree of visual angle as a share of the width, to blur fixations."),
    ] = None,
    name: Annotated[str, typer.Option(help="Written into dataset.json, as the next two.")] = "",
    licence: Annotated[str, typer.Option(help="Terms of the data.")] = "",
    origin: Annotated[str, typer.Option(help="Where the data comes from.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a packed folder.")] = False,
    strict: Annotated[
        bool, typer.Option("--all-or-nothing", help="Write nothing if anything is left out.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Pack a data set of gaze, or of texts with boxes, for training and evaluation.

    Gaze: SJTU-TIS as published, or any folder of images with maps or fixations. Texts with boxes:
    COCO, RefCOCO, Flickr30k Entities or a .csv.

    salgan-edge data prepare SJTU-TIS --output data/sjtu_tis

    salgan-edge data prepare mine/boxes.csv --images mine/photos --output data/mine
    """
    from salgan_edge.gaze.folder import DatasetInfo  # noqa: PLC0415
    from salgan_edge.gaze.prepare.build import prepare as run  # noqa: PLC0415
    from salgan_edge.gaze.show import contents  # noqa: PLC0415

    with usage_errors():
        info = DatasetInfo(name, licence, origin, DatasetInfo.blur_degree_share if blur is None else blur)
        options = PrepareOptions(
            layout=layout, images=images, maps=maps, fixations=fixations, texts=texts,
            columns=Columns(image_column, text_column, condition_column), box_unit=box_unit,
            box_form=box_form, split=split,
            max_side=max_side, info=info, overwrite=overwrite, strict=strict,
        )  # fmt: skip
    folder = run(
        source,
        output,
        options,
        progress=lambda photos: progress(photos, "packing"),
        report=lambda line: typer.echo(line, err=True),
    )
    held = contents(folder, check=False)
    typer.echo(json.dumps(asdict(held), indent=2, ensure_ascii=False) if as_json else held.to_text())


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="Packed folder, of gaze or of texts with boxes.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what a packed folder holds, and check every file of it."""
    from salgan_edge.gaze.show import contents, packed_parts  # noqa: PLC0415

    found = [contents(part, lambda photos: progress(photos, "reading")) for part in packed_parts(folder)]
    if as_json:
        first, *phrases = (asdict(one) for one in found)
        # A folder may hold both: gaze, and what the photos show.
        typer.echo(
            json.dumps(first | ({"phrases": phrases[0]} if phrases else {}), indent=2, ensure_ascii=False)
        )
    else:
        typer.echo("\n\n".join(one.to_text() for one in found))
    problems = dict.fromkeys(problem for one in found for problem in one.problems)
    if problems:
        raise DataError(f"{folder} cannot be used as it is: {'; '.join(problems)}")
