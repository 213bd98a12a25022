"""Gaze as published: SJTU-TIS, and plain folders of images with maps or fixations (SALICON, MIT1003, CAT2000).

A layout finds photos, maps, fixations and texts by their names; nothing is read yet but tables of texts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from salgan_edge.errors import DataError
from salgan_edge.gaze.folder import FREE_VIEWING, SPLITS, DatasetInfo
from salgan_edge.gaze.prepare import Columns, LayoutName
from salgan_edge.gaze.prepare.readers import POINT_SUFFIXES
from salgan_edge.gaze.prepare.texts import TEXT_SUFFIXES, Texts, parse_name, read_texts, short_name
from salgan_edge.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from salgan_edge.gaze.folder import Problems
    from salgan_edge.gaze.prepare import PrepareOptions

    Index = dict[str, dict[str, Path]]

T = TypeVar("T")

__all__ = [
    "RECORDED",
    "SPLIT_FOLDERS",
    "Found",
    "Item",
    "base_folder",
    "files_in",
    "find_folders",
    "find_sjtu_tis",
    "folders_in",
    "source_roots",
]


@dataclass(frozen=True)
class Item:
    """One photo under one viewing condition, and where its files lie."""

    photo: str
    """Name in the packed folder."""
    image: Path
    condition: str
    text: str
    map: Path | None
    fixations: Path | None
    split: str = ""
    """``train``, ``validation`` or ``test``; empty: the rule decides."""

    def __post_init__(self) -> None:
        """Check the split."""
        if self.split and self.split not in SPLITS:
            raise ValueError(f"split {self.split!r}: one of {', '.join(SPLITS)} was expected")


@dataclass(frozen=True)
class Found(Generic[T]):
    """All that a layout found, of gaze or of texts with boxes."""

    layout: LayoutName
    photos: list[T]
    """Of gaze: the items of each photo."""
    description: list[str]
    """What was found where, for people, a line each."""
    info: DatasetInfo
    """What is known of a data set with this layout."""


def _folders(
    root: Path,
    options: PrepareOptions,
    images: Collection[str],
    maps: Collection[str],
    fixations: Collection[str],
) -> tuple[Path | None, Path | None, Path | None]:
    """Folders of photos, maps and fixations in a source: the options', or those of usual names."""
    return (
        _sub_folder(root, options.images, images, "photos", "--images"),
        _sub_folder(root, options.maps, maps, "maps", "--maps"),
        _sub_folder(root, options.fixations, fixations, "fixations", "--fixations"),
    )


def _told(kind: str, folder: Path | None, files: int) -> str:
    """A line of `Found.description`."""
    return f"{kind}: {folder} ({files} files)" if folder and files else f"{kind}: none"


def _sub_folder(
    source: Path, given: Path | None, usual: Collection[str], what: str, option: str
) -> Path | None:
    """The folder of one kind of file in a source.

    Args:
        source: where to look.
        given: the user's choice, relative to `source` or to the current folder.
        usual: lower-case names to look for.
        what: kind of file, for messages.
        option: option that sets `given`, for messages.

    Returns:
        None if nothing was given and nothing is there.

    Raises:
        DataError: the given folder does not exist, or several folders have usual names.
    """
    if given is not None:
        for path in (source / given, given):
            if path.is_dir():
                return path
        raise DataError(
            f"{given} is not a folder, in {source} or here: {option} takes the folder of the {what}"
        )
    matching = [path for path in folders_in(source) if path.name.lower() in usual]
    if len(matching) > 1:
        raise DataError(
            f"{source} has several folders of {what} ({', '.join(path.name for path in matching)}): name one with {option}"
        )
    return matching[0] if matching else None


def folders_in(folder: Path) -> list[Path]:
    """Sub-folders in order, hidden ones left out."""
    return [path for path in _entries(folder) if path.is_dir()]


def files_in(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Files with one of the lower-case suffixes, in order, hidden ones left out."""
    return [path for path in _entries(folder) if path.suffix.lower() in suffixes and path.is_file()]


def _entries(folder: Path) -> Iterable[Path]:
    """What lies in a folder, in order, hidden files left out.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror or error}") from error


# Plain folders

_IMAGES = frozenset(
    {"allstimuli", "image", "images", "img", "imgs", "photos", "pictures", "stimuli", "stimulus"}
)
_MAPS = frozenset(
    {"allfixationmaps", "density", "density_maps", "fixation_maps", "fixationmaps", "heatmaps", "map", "maps",
     "saliency", "saliency_maps", "saliencymaps", "salmaps"}
)  # fmt: skip
_FIXATIONS = frozenset(
    {"fixation", "fixation_locs", "fixationlocs", "fixations", "fixpts", "locations", "points"}
)
RECORDED = _MAPS | _FIXATIONS
"""Lower-case names of folders that hold maps or fixations."""

SPLIT_FOLDERS = {
    "train": "train", "training": "train", "trainset": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "valset": "validation",
    "test": "test", "testing": "test", "testset": "test",
}  # fmt: skip
"""Splits by the lower-case names of their folders."""

# MIT1003 puts maps and points into one folder and tells them apart by the end of the name.
_MAP_END, _POINTS_END = "_fixmap", "_fixpts"


@dataclass
class _Files:
    """Files by sub-folder and name."""

    by_place: dict[tuple[str, str], Path] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)
    """Sub-folders in which a name occurs."""

    def add(self, place: str, name: str, path: Path) -> None:
        if (place, name) not in self.by_place:
            self.by_place[place, name] = path
            self.places.setdefault(name, []).append(place)

    def find(self, place: str, name: str) -> Path | None:
        """The file of a photo.

        Where only one side has sub-folders the name alone decides, if it occurs once. Files of two
        different sub-folders never belong together: categories and splits repeat names.
        """
        if (place, name) in self.by_place:
            return self.by_place[place, name]
        places = self.places.get(name, [])
        if len(places) != 1 or (place and places[0]):
            return None
        return self.by_place[places[0], name]


@dataclass(frozen=True)
class _Photo:
    """A photo and its place: the split's folder, the category's, or none."""

    path: Path
    place: str
    split: str

    @property
    def name(self) -> str:
        """Name in the packed folder: categories repeat file names, splits do not."""
        return (
            self.path.stem if self.place.lower() in {"", *SPLIT_FOLDERS} else f"{self.place}_{self.path.stem}"
        )


class _Recorded(NamedTuple):
    """A photo and the files of its gaze."""

    photo: _Photo
    map: Path | None
    fixations: Path | None


def source_roots(source: Path, images: Path | None) -> list[tuple[Path, str]]:
    """Folders that hold a folder of images, with the split that they stand for.

    That is the source, or its sub-folders such as ``train`` and ``val``, or ``trainSet`` of CAT2000.
    """
    if images is not None or any(path.name.lower() in _IMAGES for path in folders_in(source)):
        return [(source, "")]
    return [
        (path, SPLIT_FOLDERS[path.name.lower()])
        for path in folders_in(source)
        if path.name.lower() in SPLIT_FOLDERS and any(sub.name.lower() in _IMAGES for sub in folders_in(path))
    ]


def find_folders(source: Path, options: PrepareOptions, problems: Problems) -> Found[list[Item]]:
    """Pairs of free viewing.

    Images lie in a folder or one level deeper, in folders of categories (then part of the photo's
    name) or of splits (then kept). Maps and fixations have the image's name, in a sub-folder of the
    same name, or above or below where only one side has sub-folders.

    Args:
        source: folder that holds the folders.
        options: see `PrepareOptions`.
        problems: gets what must be left out.

    Raises:
        DataError: a folder is missing.
    """
    roots = source_roots(source, options.images)
    if not roots:
        has = ", ".join(path.name for path in folders_in(source)) or "none"
        raise DataError(
            f"{source} has no folder of images (its folders: {has}): images, ALLSTIMULI or Stimuli was expected; name it with --images"
        )
    description: list[str] = []
    named: dict[str, list[_Recorded]] = {}
    for root, outer in roots:
        images, maps, fixations = _folders(root, options, _IMAGES, _MAPS, _FIXATIONS)
        assert images is not None
        blurred, points = _recordings(maps, fixations)
        photos = _photos(images, outer, problems)
        # MIT1003's points lie among its maps.
        description += [
            f"images: {images} ({len(photos)} files)",
            _told("maps", maps or fixations, len(blurred.by_place)),
            _told("fixations", fixations or maps, len(points.by_place)),
        ]
        for photo in photos:
            place, stem = photo.place, photo.path.stem
            recorded = _Recorded(photo, blurred.find(place, stem), points.find(place, stem))
            if recorded.map is not None or recorded.fixations is not None:
                named.setdefault(photo.name, []).append(recorded)
            # Benchmarks publish the photos of their test set and keep the gaze.
            elif photo.split == "test":
                problems.note("photos of the test folder without gaze, left out", photo.path.name)
            else:
                problems.add("photos with neither map nor fixations", photo.path.name)
    seen = {recorded.photo.split for group in named.values() for recorded in group} - {""}
    official = options.split == "auto" and len(seen) > 1
    fixed = "" if options.split in ("auto", "rule") else options.split.value
    if official:
        description.append(f"splits: as in the folders ({', '.join(sorted(seen))})")
    else:
        description.append(f"splits: all photos in {fixed}" if fixed else "splits: 70/15/15 by name")
    items: dict[str, Item] = {}
    for name, group in sorted(named.items()):
        for photo, blurred_map, fixation_file in group:
            # The same name in two splits is two photos, unless their files are equal (`pack`).
            unique = name if len(group) == 1 else f"{photo.split}_{name}".strip("_")
            split = photo.split if official else fixed
            if unique in items:
                problems.add("photos of the same name", unique)
            else:
                items[unique] = Item(unique, photo.path, FREE_VIEWING, "", blurred_map, fixation_file, split)
    return Found(LayoutName.folder, [[item] for item in items.values()], description, DatasetInfo())


def _photos(images: Path, outer: str, problems: Problems) -> list[_Photo]:
    places = [(images, "")] + [(folder, folder.name) for folder in folders_in(images)]
    found: dict[tuple[str, str], _Photo] = {}
    for folder, place in places:
        for path in files_in(folder, IMAGE_SUFFIXES):
            if (place, path.stem) in found:
                problems.add("photos that occur twice in different formats", f"{place} {path.name}".strip())
                continue
            found[place, path.stem] = _Photo(path, place, outer or SPLIT_FOLDERS.get(place.lower(), ""))
    return list(found.values())


def _recordings(maps: Path | None, fixations: Path | None) -> tuple[_Files, _Files]:
    """Files of maps and of fixations, by the names of their photos."""
    blurred, points = _Files(), _Files()
    for folder, kind, suffixes in ((maps, blurred, IMAGE_SUFFIXES), (fixations, points, POINT_SUFFIXES)):
        for place, path in _deep(folder, suffixes):
            name, lower = path.stem, path.stem.lower()
            if lower.endswith(_MAP_END):
                blurred.add(place, name[: -len(_MAP_END)], path)
            elif lower.endswith(_POINTS_END):
                points.add(place, name[: -len(_POINTS_END)], path)
            else:
                kind.add(place, name, path)
    return blurred, points


def _deep(folder: Path | None, suffixes: Collection[str]) -> Sequence[tuple[str, Path]]:
    """Files of a folder and one level deeper, with the name of the sub-folder."""
    if folder is None:
        return []
    below = [(sub.name, path) for sub in folders_in(folder) for path in files_in(sub, suffixes)]
    return [("", path) for path in files_in(folder, suffixes)] + below


# SJTU-TIS

_TIS_IMAGES = ("image_1800", "images_1800")
_TIS_MAPS = ("map_1800", "maps_1800")
_TIS_FIXATIONS = ("fixation_1800", "fixations_1800")

_TIS_INFO = DatasetInfo(
    name="SJTU-TIS",
    licence="research use",
    source="Sun, Min, Duan, Zhai, arXiv 2404.07537",
)


def base_folder(source: Path) -> Path | None:
    """The source, or its sub-folder, that holds the published folders; None if neither does."""
    for folder in (source, *folders_in(source)):
        names = {path.name.lower() for path in folders_in(folder)}
        if names & set(_TIS_IMAGES) and names & {*_TIS_MAPS, *_TIS_FIXATIONS}:
            return folder
    return None


def find_sjtu_tis(source: Path, options: PrepareOptions, problems: Problems) -> Found[list[Item]]:
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
    images, maps, fixations = _folders(base, options, _TIS_IMAGES, _TIS_MAPS, _TIS_FIXATIONS)
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
    items: dict[str, list[Item]] = {}
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
                items.setdefault(name, []).append(
                    Item(name, image, condition, text, blurred_map, fixation_file, split)
                )
    _report_alone(photos, recorded, problems)
    description = [
        f"images: {images} ({len(files_in(images, IMAGE_SUFFIXES))} files)",
        _told("maps", maps, len(files_in(maps, IMAGE_SUFFIXES)) if maps else 0),
        _told("fixations", fixations, len(files_in(fixations, POINT_SUFFIXES)) if fixations else 0),
    ]
    if texts is not None:
        description.append(f"texts: {texts.path} ({sum(map(bool, texts.by_name.values()))} texts)")
    return Found(LayoutName.sjtu_tis, list(items.values()), description, _TIS_INFO)


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
    """Note images for which nothing was recorded."""
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
