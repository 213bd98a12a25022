"""`salgan-edge data`: pack data sets of gaze or of texts with boxes, and see what a packed folder holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from salgan_edge.errors import DataError
from salgan_edge.gaze.prepare.layout import BoxForm, BoxUnit, LayoutName, SplitChoice

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from salgan_edge.gaze.folder import GazeFolder
    from salgan_edge.gaze.phrases import PhraseSet
    from salgan_edge.gaze.prepare.phrase_pack import PhraseContents
    from salgan_edge.gaze.prepare.show import Contents

__all__ = ["app"]

T = TypeVar("T")

_KINDS = 8
"""So many kinds are shown."""

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
    strict: Annotated[bool, typer.Option("--strict", help="Write nothing if anything is left out.")] = False,
) -> None:
    """Pack a data set of gaze, or of texts with boxes, for training and evaluation.

    Gaze: SJTU-TIS as published, or any folder of images with maps or fixations. Texts with boxes:
    COCO, RefCOCO, Flickr30k Entities or a .csv.

    salgan-edge data prepare SJTU-TIS --output data/sjtu_tis

    salgan-edge data prepare mine/boxes.csv --images mine/photos --output data/mine
    """
    from salgan_edge.gaze.info import DatasetInfo  # noqa: PLC0415
    from salgan_edge.gaze.prepare.build import prepare as run  # noqa: PLC0415
    from salgan_edge.gaze.prepare.layout import PrepareOptions  # noqa: PLC0415
    from salgan_edge.gaze.prepare.texts import Columns  # noqa: PLC0415

    try:
        info = DatasetInfo(name, licence, origin, DatasetInfo.blur_degree_share if blur is None else blur)
        options = PrepareOptions(
            layout=layout, images=images, maps=maps, fixations=fixations, texts=texts,
            columns=Columns(image_column, text_column, condition_column), box_unit=box_unit,
            box_form=box_form, split=split,
            max_side=max_side, info=info, overwrite=overwrite, strict=strict,
        )  # fmt: skip
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    folder = run(
        source,
        output,
        options,
        progress=lambda groups: _progress(groups, "packing"),
        report=lambda line: typer.echo(line, err=True),
    )
    typer.echo(_described(folder, check=False)[1])


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="Packed folder, of gaze or of texts with boxes.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what a packed folder holds, and check every file of it."""
    from salgan_edge.gaze.folder import GazeFolder  # noqa: PLC0415
    from salgan_edge.gaze.phrases import PhraseSet  # noqa: PLC0415

    of_phrases = (folder / "phrases.csv").is_file()
    # A folder may hold both: gaze, and what the photos show.
    parts: list[GazeFolder | PhraseSet] = [PhraseSet(folder)] if of_phrases else []
    if (folder / "pairs.csv").is_file() or not of_phrases:
        parts.insert(0, GazeFolder(folder))
    described = [_described(part) for part in parts]
    if as_json:
        found = described[0][0] if len(described) == 1 else described[0][0] | {"phrases": described[1][0]}
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        typer.echo("\n\n".join(table for _, table in described))
    problems = [problem for found, _ in described for problem in found["problems"]]
    if problems:
        raise DataError(f"{folder} cannot be used as it is: {'; '.join(dict.fromkeys(problems))}")


def _described(folder: GazeFolder | PhraseSet, *, check: bool = True) -> tuple[dict[str, Any], str]:
    """What a packed folder holds, as an object and as text for people."""
    import dataclasses  # noqa: PLC0415

    from salgan_edge.gaze.phrases import PhraseSet  # noqa: PLC0415
    from salgan_edge.gaze.prepare.phrase_pack import phrase_contents  # noqa: PLC0415
    from salgan_edge.gaze.prepare.show import contents  # noqa: PLC0415

    if isinstance(folder, PhraseSet):
        named = phrase_contents(folder, lambda names: _progress(names, "reading"), check=check)
        return dataclasses.asdict(named), _phrase_table(named)
    found = contents(folder, lambda groups: _progress(groups, "reading"), check=check)
    return dataclasses.asdict(found), _table(found)


def _progress(groups: Sequence[T], label: str) -> Iterable[T]:
    if not sys.stderr.isatty():
        yield from groups
        return
    with typer.progressbar(groups, label=label, file=sys.stderr) as bar:
        yield from bar


def _table(found: Contents) -> str:
    about = "; ".join(part for part in (found.licence, found.source) if part)
    conditions = list(found.all.conditions)
    heading = ["photos", "pairs", *conditions, "fixations"]
    lines = [f"{found.folder}: {found.name}" + (f" ({about})" if about else ""), ""]
    lines.append(f"{'':<12}" + "".join(f"{word:>12}" for word in heading))
    for label, part in {**found.splits, "all": found.all}.items():
        figures = [part.photos, part.pairs, *(part.conditions.get(c, 0) for c in conditions), part.fixations]
        lines.append(f"{label:<12}" + "".join(f"{figure:>12}" for figure in figures))
    pairs, drawn, watched = found.all.pairs, found.all.pairs_with_maps, found.all.pairs_with_fixations
    lines += ["", f"splits: {found.split}"]
    blurred = f"; the others are fixations blurred by {found.blur_degree_share:.3f} of the width"
    lines.append(f"published maps: {drawn} of {pairs} pairs" + (blurred if drawn < pairs else ""))
    if watched < pairs:
        lines.append(f"fixations: {watched} of {pairs} pairs; no NSS, AUC or IG for the others")
    for condition, texts in found.texts.items():
        lines.append(f"{condition}: " + " | ".join(texts))
    return "\n".join(lines)


def _phrase_table(found: PhraseContents) -> str:
    about = "; ".join(part for part in (found.licence, found.source) if part)
    lines = [f"{found.folder}: {found.name}" + (f" ({about})" if about else ""), ""]
    heading = ["photos", "rows", "wordings", "distinct", "boxes"]
    lines.append(f"{'':<12}" + "".join(f"{word:>12}" for word in heading))
    for label, part in {**found.splits, "all": found.all}.items():
        figures = [part.photos, part.rows, part.wordings, part.distinct, part.boxes]
        lines.append(f"{label:<12}" + "".join(f"{figure:>12}" for figure in figures))
    lines += ["", f"splits: {found.split}"]
    lines.append("rows by the share of the photo in their boxes: " + _counts(found.areas))
    if found.unnamed:
        lines.append(f"photos without a text: {found.unnamed}")
    lines.append("rows by kind: " + _counts(found.all.kinds))
    lines += [f"{kind}: " + " | ".join(texts) for kind, texts in list(found.texts.items())[:_KINDS]]
    return "\n".join(lines)


def _counts(numbers: dict[str, int]) -> str:
    """Numbers by name on one line, the first few."""
    shown = [f"{name}: {number}" for name, number in numbers.items()]
    return ", ".join(shown[:_KINDS]) + (f" and {len(shown) - _KINDS} more" if len(shown) > _KINDS else "")
