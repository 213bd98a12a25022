"""`salgan-edge data prepare` as a function: source in, packed folder out."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from salgan_edge.errors import DataError, OutputError
from salgan_edge.gaze.folder import GazeFolder
from salgan_edge.gaze.info import DatasetInfo
from salgan_edge.gaze.phrases import PhraseSet
from salgan_edge.gaze.prepare import folders, sjtu_tis
from salgan_edge.gaze.prepare.layout import LayoutName, folders_in
from salgan_edge.gaze.prepare.pack import pack, require_free
from salgan_edge.gaze.prepare.phrase_pack import pack_phrases
from salgan_edge.gaze.prepare.phrase_sources import find_phrases, phrase_tables
from salgan_edge.gaze.problems import Problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from salgan_edge.gaze.prepare.layout import PrepareOptions

    Progress = Callable[[Sequence[Any]], Iterable[Any]]

__all__ = ["detect", "prepare"]

_PHRASES = (LayoutName.coco, LayoutName.refcoco, LayoutName.flickr30k, LayoutName.csv)
"""Layouts of texts with boxes; the others are of gaze."""


def prepare(
    source: Path,
    output: Path,
    options: PrepareOptions,
    *,
    progress: Progress = lambda groups: groups,
    report: Callable[[str], None] = lambda _line: None,
) -> GazeFolder | PhraseSet:
    """Pack a published data set, or the user's own, into the folder that training and evaluation read.

    Args:
        source: the data set, in one of the layouts of `LayoutName`; of texts with boxes, a file of
            them will do.
        output: the packed folder; its name is the data set's name in training.
        options: see `PrepareOptions`.
        progress: wraps the list of photos, to show progress.
        report: gets one line for each thing found, changed or left out.

    Returns:
        The packed folder, read: of gaze, or of texts with boxes.

    Raises:
        DataError: the source has no known layout, a part is missing, nothing is left, or, when
            strict, something had to be left out.
        OutputError: the output cannot be written or would destroy something.
    """
    if not source.exists():
        raise DataError(f"{source} is no folder and no file: the folder of a data set was expected")
    if output.resolve() == source.resolve() or output.resolve() in source.resolve().parents:
        raise OutputError(f"{output} holds the source {source}: choose another --output")
    require_free(output, overwrite=options.overwrite)
    problems = Problems()
    layout = detect(source) if options.layout is LayoutName.auto else options.layout
    pack_source = _prepare_phrases if layout in _PHRASES else _prepare_gaze
    pack_source(source, output, layout, options, problems, progress, report)
    for line in problems.notes():
        report(f"note: {line}")
    for line in problems.lines():
        report(f"left out: {line}")
    return PhraseSet(output) if layout in _PHRASES else GazeFolder(output)


def _prepare_gaze(
    source: Path,
    output: Path,
    layout: LayoutName,
    options: PrepareOptions,
    problems: Problems,
    progress: Progress,
    report: Callable[[str], None],
) -> None:
    """Pack gaze data."""
    if not source.is_dir():
        raise DataError(f"{source} is no folder: the folder of a data set was expected")
    find = sjtu_tis.find if layout is LayoutName.sjtu_tis else folders.find
    found = find(source, options, problems)
    report(f"layout {found.layout.value}")
    for line in found.description:
        report(line)
    if not found.items:
        reasons = "; ".join(problems.lines()) or "no image has a map or fixations of its name"
        raise DataError(f"{source} has nothing that can be packed: {reasons}")
    pack(
        found.items,
        output,
        _filled(options.info, found.info),
        problems,
        max_side=options.max_side,
        overwrite=options.overwrite,
        strict=options.strict,
        progress=progress,
    )


def _prepare_phrases(
    source: Path,
    output: Path,
    layout: LayoutName,
    options: PrepareOptions,
    problems: Problems,
    progress: Progress,
    report: Callable[[str], None],
) -> None:
    """Pack texts with boxes."""
    found = find_phrases(source, layout, phrase_tables(source).get(layout, []), options, problems)
    report(f"layout {found.layout.value}")
    for line in found.description:
        report(line)
    if not found.photos:
        reasons = "; ".join([*problems.lines(), *problems.notes()]) or "no text has a box"
        raise DataError(f"{source} has nothing that can be packed: {reasons}")
    pack_phrases(
        found.photos,
        output,
        _filled(options.info, found.info),
        problems,
        max_side=options.max_side,
        overwrite=options.overwrite,
        strict=options.strict,
        progress=progress,
    )


def detect(source: Path) -> LayoutName:
    """The layout of a source, by the names of its folders and the content of its tables.

    Raises:
        DataError: it has none of the known ones, or several.
    """
    tables = phrase_tables(source)
    if LayoutName.refcoco in tables:
        # Its boxes lie in a COCO file beside it.
        tables.pop(LayoutName.coco, None)
    possible = {layout: ", ".join(path.name for path in files) for layout, files in tables.items()}
    if source.is_dir():
        if sjtu_tis.base_folder(source) is not None:
            possible[LayoutName.sjtu_tis] = "image_1800"
        elif (source / "pairs.csv").is_file():
            raise DataError(
                f"{source} is a packed folder already: 'salgan-edge data show' tells what it holds"
            )
        elif folders.source_roots(source, None) and (not tables or _has_gaze(source)):
            possible[LayoutName.folder] = "maps or fixations"
    if len(possible) > 1:
        several = ", ".join(f"{layout.value} ({what})" for layout, what in possible.items())
        raise DataError(f"{source} has several layouts: {several}; say which with --layout")
    if possible:
        return next(iter(possible))
    texts = "a COCO .json, refs(...).p with instances.json, Sentences with Annotations, or a .csv with boxes"
    if source.is_file():
        raise DataError(f"{source} holds no texts with boxes in a known form: expected {texts}")
    has = ", ".join(path.name for path in folders_in(source)) or "none"
    raise DataError(
        f"{source} has no known layout (its folders: {has}): expected image_1800 with map_1800 or fixation_1800, or images with maps or fixations, or {texts}; say which with --layout, --images, --maps, --fixations"
    )


def _has_gaze(source: Path) -> bool:
    """Whether maps or fixations lie beside the images of a plain source."""
    return any(
        path.name.lower() in folders.RECORDED
        for root, _ in folders.source_roots(source, None)
        for path in folders_in(root)
    )


def _filled(given: DatasetInfo, known: DatasetInfo) -> DatasetInfo:
    """The user's fields, and what is known of the layout where the user left the default."""
    unset = DatasetInfo()
    return replace(
        given,
        **{
            f.name: getattr(known, f.name)
            for f in fields(DatasetInfo)
            if getattr(given, f.name) == getattr(unset, f.name)
        },
    )
