"""SJTU-TIS as published: ``image_1800``, ``map_1800``, ``fixation_1800`` and a table of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from salgan_edge.errors import DataError
from salgan_edge.gaze.folder import FREE_VIEWING
from salgan_edge.gaze.info import DatasetInfo
from salgan_edge.gaze.prepare.conditions import parse_name, short_name
from salgan_edge.gaze.prepare.layout import Found, Item, LayoutName, files_in, folders_in, sub_folder
from salgan_edge.gaze.prepare.points import POINT_SUFFIXES
from salgan_edge.gaze.prepare.texts import TEXT_SUFFIXES, Columns, Texts, read_texts
from salgan_edge.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from salgan_edge.gaze.prepare.layout import PrepareOptions
    from salgan_edge.gaze.problems import Problems

    Index = dict[str, dict[str, Path]]

__all__ = ["base_folder", "find"]

_IMAGES = ("image_1800", "images_1800")
_MAPS = ("map_1800", "maps_1800")
_FIXATIONS = ("fixation_1800", "fixations_1800")

_INFO = DatasetInfo(
    name="SJTU-TIS",
    licence="research use",
    source="Sun, Min, Duan, Zhai, arXiv 2404.07537",
)


def base_folder(source: Path) -> Path | None:
    """The source, or its sub-folder, that holds the published folders; None if neither does."""
    for folder in (source, *folders_in(source)):
        names = {path.name.lower() for path in folders_in(folder)}
        if names & set(_IMAGES) and names & {*_MAPS, *_FIXATIONS}:
            return folder
    return None


def find(source: Path, options: PrepareOptions, problems: Problems) -> Found:
    """Pairs of a source in the published layout.

    The number after a name says under which condition a map or fixations were recorded
    (`parse_name`); they make the pair. The photo is the same under all conditions, so any file of
    its name will do: ``71.png``, ``71_0.png``, ...

    Args:
        source: folder that holds the published folders, or holds a folder that does.
        options: see `PrepareOptions`.
        problems: gets what must be left out.

    Raises:
        DataError: a folder or the table of texts is missing.
    """
    base = base_folder(source) or source
    images = sub_folder(base, options.images, _IMAGES, "photos", "--images")
    maps = sub_folder(base, options.maps, _MAPS, "maps", "--maps")
    fixations = sub_folder(base, options.fixations, _FIXATIONS, "fixations", "--fixations")
    if images is None or (maps is None and fixations is None):
        has = ", ".join(path.name for path in folders_in(base)) or "none"
        raise DataError(
            f"{base} does not hold image_1800 with map_1800 or fixation_1800 (its folders: {has}): name them with --images, --maps, --fixations"
        )
    photos = _index(images, IMAGE_SUFFIXES, problems)
    blurred = _index(maps, IMAGE_SUFFIXES, problems)
    points = _index(fixations, POINT_SUFFIXES, problems)
    recorded = {name: {*blurred.get(name, ()), *points.get(name, ())} for name in sorted({*blurred, *points})}
    texts = None
    if any(condition != FREE_VIEWING for conditions in recorded.values() for condition in conditions):
        path = options.texts or _text_table([base, source])
        texts = read_texts(path, options.columns or Columns())
        _refuse_namesakes(recorded, path)
    split = "" if options.split in ("auto", "rule") else options.split.value
    items: list[Item] = []
    for name, conditions in recorded.items():
        if name not in photos:
            problems.add("photos that have a map or fixations and no image", name)
            continue
        files = photos[name]
        for condition in sorted(conditions):
            text = _text(texts, name, condition, conditions, problems)
            if text is not None:
                image = files.get(condition) or next(iter(files.values()))
                blurred_map = blurred.get(name, {}).get(condition)
                fixation_file = points.get(name, {}).get(condition)
                items.append(Item(name, image, condition, text, blurred_map, fixation_file, split))
    _report_alone(photos, recorded, problems)
    return Found(LayoutName.sjtu_tis, items, _description(images, maps, fixations, texts), _INFO)


def _text(
    texts: Texts | None, name: str, condition: str, conditions: Collection[str], problems: Problems
) -> str | None:
    """What the viewers were told, empty for free viewing; None if they were told what is not known."""
    if texts is None or condition == FREE_VIEWING:
        return ""
    only_text = not {"whole", "general"} <= set(conditions)
    text = texts.find(name, condition, only_text=only_text, problems=problems)
    if not text:
        problems.add(f"pairs without a text in {texts.path.name}", f"{name} {condition}")
        return None
    return text


def _report_alone(photos: Index, recorded: dict[str, set[str]], problems: Problems) -> None:
    """Tell of images for which nothing was recorded."""
    for name, files in photos.items():
        alone = {*files} - recorded.get(name, set())
        # The name without a number may just be the photo of the numbered conditions.
        if name in recorded:
            alone.discard("whole")
        for condition in sorted(alone):
            problems.add("images with neither map nor fixations", files[condition].name)


def _index(folder: Path | None, suffixes: Collection[str], problems: Problems) -> Index:
    """Files by photo and condition."""
    found: Index = {}
    for path in files_in(folder, suffixes) if folder else ():
        photo, condition = parse_name(path.stem)
        if found.setdefault(photo, {}).setdefault(condition, path) != path:
            problems.add("files that occur twice in different formats", path.name)
    return found


def _text_table(folders: Sequence[Path]) -> Path:
    """The only table of texts, or the only one with "text" in its name.

    JSON goes before .csv before .xlsx where the same name ends in several.
    """
    for folder in folders:
        tables = files_in(folder, TEXT_SUFFIXES)
        named = [path for path in tables if "text" in path.name.lower() or "caption" in path.name.lower()]
        chosen = sorted(named or tables, key=lambda path: TEXT_SUFFIXES.index(path.suffix.lower()))
        if len({path.stem for path in chosen}) == 1:
            return chosen[0]
        if chosen:
            raise DataError(
                f"{folder} has several tables that may hold the texts ({', '.join(path.name for path in chosen)}): name one with --texts"
            )
    raise DataError(
        f"{folders[0]} has no table of texts: {', '.join(TEXT_SUFFIXES)} were expected; name it with --texts"
    )


def _refuse_namesakes(photos: Collection[str], path: Path) -> None:
    """Tables of texts drop leading zeros, so names that differ in them cannot be told apart."""
    seen: dict[str, str] = {}
    for name in photos:
        other = seen.setdefault(short_name(name), name)
        if other != name:
            raise DataError(
                f"photos {other} and {name} differ in leading zeros only, which {path.name} may lack: rename one"
            )


def _description(images: Path, maps: Path | None, fixations: Path | None, texts: Texts | None) -> list[str]:
    lines = [f"images: {images} ({len(files_in(images, IMAGE_SUFFIXES))} files)"]
    lines.append(f"maps: {maps} ({len(files_in(maps, IMAGE_SUFFIXES))} files)" if maps else "maps: none")
    lines.append(
        f"fixations: {fixations} ({len(files_in(fixations, POINT_SUFFIXES))} files)"
        if fixations
        else "fixations: none"
    )
    if texts is not None:
        lines.append(f"texts: {texts.path} ({sum(map(bool, texts.by_name.values()))} texts)")
    return lines
