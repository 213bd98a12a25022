"""`salgan-edge data prepare` as a function: source in, packed folder out."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from salgan_edge.train.data.gaze import GazeFolder
from salgan_edge.train.data.info import DatasetInfo
from salgan_edge.train.data.prepare import folders, sjtu_tis
from salgan_edge.train.data.prepare.layout import LayoutName, folders_in
from salgan_edge.train.data.prepare.pack import pack, require_free
from salgan_edge.train.data.problems import Problems

from salgan_edge.errors import DataError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from salgan_edge.train.data.prepare.layout import PrepareOptions
    from salgan_edge.train.data.prepare.pack import Progress

__all__ = ["detect", "prepare"]


def prepare(
    source: Path,
    output: Path,
    options: PrepareOptions,
    *,
    progress: Progress = lambda groups: groups,
    report: Callable[[str], None] = lambda _line: None,
) -> GazeFolder:
    """Pack a published data set into the folder that training and evaluation read.

    Args:
        source: the data set, in one of the layouts of `LayoutName`.
        output: the packed folder; its name is the data set's name in training.
        options: see `PrepareOptions`.
        progress: wraps the list of photos, to show progress.
        report: gets one line for each thing found, changed or left out.

    Raises:
        DataError: the source has no known layout, a part is missing, nothing is left, or, when
            strict, something had to be left out.
        OutputError: the output cannot be written or would destroy something.
    """
    if not source.is_dir():
        raise DataError(f"{source} is no folder: the folder of a data set was expected")
    if output.resolve() == source.resolve() or output.resolve() in source.resolve().parents:
        raise OutputError(f"{output} holds the source {source}: choose another --output")
    require_free(output, overwrite=options.overwrite)
    problems = Problems()
    layout = detect(source) if options.layout is LayoutName.auto else options.layout
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
    for line in problems.notes():
        report(f"note: {line}")
    for line in problems.lines():
        report(f"left out: {line}")
    return GazeFolder(output)


def detect(source: Path) -> LayoutName:
    """The layout of a source, by the names of its folders.

    Raises:
        DataError: it has none of the known ones.
    """
    if sjtu_tis.base_folder(source) is not None:
        return LayoutName.sjtu_tis
    if (source / "pairs.csv").is_file():
        raise DataError(f"{source} is a packed folder already: 'salgan-edge data show' tells what it holds")
    if folders.source_roots(source, None):
        return LayoutName.folder
    has = ", ".join(path.name for path in folders_in(source)) or "none"
    raise DataError(
        f"{source} has no known layout (its folders: {has}): expected image_1800 with map_1800 or fixation_1800, or images with maps or fixations; say which with --layout, --images, --maps, --fixations"
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
