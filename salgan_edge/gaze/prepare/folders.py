"""Free-viewing data in plain folders: images with maps, fixations or both (SALICON, MIT1003, CAT2000)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from salgan_edge.errors import DataError
from salgan_edge.gaze.folder import FREE_VIEWING
from salgan_edge.gaze.info import DatasetInfo
from salgan_edge.gaze.prepare.layout import Found, Item, LayoutName, files_in, folders_in, sub_folder
from salgan_edge.gaze.prepare.points import POINT_SUFFIXES
from salgan_edge.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from salgan_edge.gaze.prepare.layout import PrepareOptions
    from salgan_edge.gaze.problems import Problems

__all__ = ["RECORDED", "find", "source_roots"]

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

_SPLITS = {
    "train": "train", "training": "train", "trainset": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "valset": "validation",
    "test": "test", "testing": "test", "testset": "test",
}  # fmt: skip

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
        return self.path.stem if self.place.lower() in {"", *_SPLITS} else f"{self.place}_{self.path.stem}"


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
        (path, _SPLITS[path.name.lower()])
        for path in folders_in(source)
        if path.name.lower() in _SPLITS and any(sub.name.lower() in _IMAGES for sub in folders_in(path))
    ]


def find(source: Path, options: PrepareOptions, problems: Problems) -> Found:
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
        images = sub_folder(root, options.images, _IMAGES, "photos", "--images")
        maps = sub_folder(root, options.maps, _MAPS, "maps", "--maps")
        fixations = sub_folder(root, options.fixations, _FIXATIONS, "fixations", "--fixations")
        assert images is not None
        blurred, points = _recordings(maps, fixations)
        photos = _photos(images, outer, problems)
        description += _description(images, len(photos), maps, blurred, fixations, points)
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
    return Found(LayoutName.folder, list(items.values()), description, DatasetInfo())


def _photos(images: Path, outer: str, problems: Problems) -> list[_Photo]:
    places = [(images, "")] + [(folder, folder.name) for folder in folders_in(images)]
    found: dict[tuple[str, str], _Photo] = {}
    for folder, place in places:
        for path in files_in(folder, IMAGE_SUFFIXES):
            if (place, path.stem) in found:
                problems.add("photos that occur twice in different formats", f"{place} {path.name}".strip())
                continue
            found[place, path.stem] = _Photo(path, place, outer or _SPLITS.get(place.lower(), ""))
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


def _description(
    images: Path, photos: int, maps: Path | None, blurred: _Files, fixations: Path | None, points: _Files
) -> list[str]:
    # MIT1003's points lie among its maps.
    return [
        f"images: {images} ({photos} files)",
        f"maps: {maps or fixations} ({len(blurred.by_place)} files)" if blurred.by_place else "maps: none",
        f"fixations: {fixations or maps} ({len(points.by_place)} files)"
        if points.by_place
        else "fixations: none",
    ]
