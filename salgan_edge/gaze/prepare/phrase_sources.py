"""Texts with boxes as others publish or write them: COCO, RefCOCO, Flickr30k Entities, plain tables.

Each reader looks up the photos' files and gathers rows; no photo is decoded yet, so boxes stay in
the source's own units until `salgan_edge.gaze.prepare.phrase_pack` knows the photo's size.
"""

from __future__ import annotations

import io
import json
import math
import mmap
import os
import pickle
import pickletools
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from xml.etree import ElementTree as ET

from salgan_edge.errors import DataError
from salgan_edge.gaze.info import DatasetInfo
from salgan_edge.gaze.prepare.layout import BoxForm, BoxUnit, LayoutName, files_in, folders_in
from salgan_edge.gaze.prepare.texts import IMAGE_COLUMNS, find_column, read_csv
from salgan_edge.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from salgan_edge.gaze.prepare.layout import PrepareOptions
    from salgan_edge.gaze.problems import Problems

T = TypeVar("T")

__all__ = ["CAPTION", "SHARES", "RawBox", "Row", "Source", "SourcePhoto", "find_phrases", "phrase_tables"]

RawBox = tuple[float, float, float, float]
"""x0, y0, x1, y1 in the units of the photo's frame; x1 and y1 may still be the smaller ones."""

CAPTION = "caption"
"""Kind of a text about the whole photo."""

SHARES = (1.0, 1.0)
"""Frame of boxes in shares of the photo's width and height."""

_SPLITS = {
    "train": "train", "training": "train", "trainset": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation", "minival": "validation",
    "test": "test", "testing": "test", "testset": "test", "testa": "test", "testb": "test", "testc": "test",
}  # fmt: skip
_HELD_BACK = ("train", "validation", "test")
"""A photo that a set puts into several splits goes into the last of these."""

_COCO_NAME = re.compile(r"COCO_[a-z]+\d{4}_(\d{12})")
_WORD = re.compile(r"[a-zA-Z]+")
_PLURAL = re.compile(r"(?:[^siu]s|skis)$")
"""Names such as scissors and skis, which take no article."""

_BOX_COLUMNS = ("boxes", "box", "bbox", "bboxes", "boundingbox")
_TEXT_COLUMNS = (
    "phrase",
    "phrases",
    "texts",
    "text",
    "expression",
    "caption",
    "sentence",
    "description",
    "label",
)
_KIND_COLUMNS = ("kind", "type", "category")
_SPLIT_COLUMNS = ("split", "subset", "partition")
_CORNERS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
_SIZES = (("x", "y", "w", "h"), ("x", "y", "width", "height"))
_FRAMES = (("imagewidth", "imageheight"), ("imgwidth", "imgheight"), ("width", "height"))
_LARGEST_SHARE = 1.5
"""A box that ends beyond this is in pixels; one of pixels that ends before would be a single pixel."""
_BACKWARDS = 0.05
"""So many boxes that run backwards are no slips but another order of numbers."""

_ENTITY = re.compile(r"\[/EN#(?P<number>\d+)(?:/(?P<kind>[^ \]]+))? (?P<text>[^\]]+)\]")


@dataclass
class Row:
    """Wordings that name the same things in one photo."""

    kind: str
    texts: list[str] = field(default_factory=list)
    boxes: list[RawBox] = field(default_factory=list)
    """Empty: the whole photo shows it."""


@dataclass
class SourcePhoto:
    """One photo and all that is said about it."""

    file: Path
    name: str
    """Name in the packed folder; COCO's number where the file is named by it."""
    frame: tuple[float, float] | None = None
    """Width and height in whose units the boxes are; `SHARES`, or None: the photo's own pixels."""
    split: str = ""
    """``train``, ``validation`` or ``test``; empty: the rule decides."""
    rows: dict[Hashable, Row] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """All that a source holds."""

    layout: LayoutName
    photos: list[SourcePhoto]
    description: list[str]
    """What was found where, for people, a line each."""
    info: DatasetInfo
    """What the source says about itself."""


def phrase_tables(source: Path) -> dict[LayoutName, list[Path]]:
    """Files of texts with boxes in a source, by layout; recognised by what they hold, nothing decoded.

    Args:
        source: a file, or a folder that holds them, in ``annotations`` perhaps.
    """
    if source.is_file():
        files = [source]
    else:
        below = [path for path in folders_in(source) if path.name.lower() in {"annotations", "refs", "texts"}]
        files = [file for folder in (source, *below) for file in files_in(folder, _READ_AS)]
    found: dict[LayoutName, list[Path]] = {}
    if source.is_dir() and _entities_folder(source) is not None:
        found[LayoutName.flickr30k] = [source]
    for file in files:
        layout, holds = _READ_AS.get(file.suffix.lower(), (None, None))
        if layout is not None and holds is not None and holds(file):
            found.setdefault(layout, []).append(file)
    return found


def find_phrases(
    source: Path,
    layout: LayoutName,
    tables: Sequence[Path],
    options: PrepareOptions,
    problems: Problems,
) -> Source:
    """Read a source of texts with boxes.

    Args:
        source: a file or a folder.
        layout: `LayoutName.coco`, ``refcoco``, ``flickr30k`` or ``csv``.
        tables: its files, from `phrase_tables`.
        options: see `PrepareOptions`.
        problems: gets what must be left out.

    Raises:
        DataError: a file is missing, unreadable, unsafe or of another form, or several could be meant.
    """
    if not tables:
        raise DataError(f"{source} {_MISSING[layout]}")
    base = source if source.is_dir() else source.parent
    if source.is_file() and base.name.lower() == "annotations":
        base = base.parent
    gathered = _Gathered(_PhotoFiles(_photo_folder(base, options.images)), problems)
    info = DatasetInfo()
    if layout is LayoutName.flickr30k:
        _read_entities(_entities_folder(base) or base, gathered)
        info = DatasetInfo(
            name="Flickr30k Entities",
            licence="non-commercial research and education",
            source="Plummer et al., ICCV 2015",
        )
    elif layout is LayoutName.refcoco:
        info = _read_references(_single(tables, source), gathered)
    elif layout is LayoutName.coco:
        info = _read_coco_files(tables, gathered)
    else:
        named = [_split_of_name(table) for table in tables]
        chosen = tables if len(tables) == len(set(named)) and all(named) else [_single(tables, source)]
        for table, split in zip(chosen, named, strict=False):
            _read_table(table, split if len(chosen) > 1 else "", options, gathered)
    photos = gathered.finished()
    if options.split != "auto":
        fixed = "" if options.split == "rule" else options.split.value
        for photo in photos:
            photo.split = fixed
    given = sorted({photo.split for photo in photos} - {""}, key=_HELD_BACK.index)
    description = [
        *(f"texts: {table}" for table in tables),
        f"photos: {gathered.files.root} ({len(photos)} with texts)",
        f"splits: {'as the set gives them (' + ', '.join(given) + ')' if given and options.split == 'auto' else ', '.join(given) or '70/15/15 by name'}",
    ]
    return Source(layout, photos, description, info)


# Photos by name


class _PhotoFiles:
    """Image files of a folder and all below it but packed folders, found by the names that tables give them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        entered: set[Path] = set()
        for place, below, names in os.walk(root, followlinks=True):
            folder = Path(place)
            real = folder.resolve()
            # A link to a folder above would be walked for ever, and packed copies found beside their photos.
            packed = "dataset.json" in names and bool({"phrases.csv", "pairs.csv"} & set(names))
            if real in entered or (folder != root and packed):
                below.clear()
                continue
            entered.add(real)
            below[:] = sorted(name for name in below if not name.startswith("."))
            for name in sorted(names):
                path = folder / name
                if path.suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                    self._by_name.setdefault(name, []).append(path)
                    self._by_stem.setdefault(_bare(path.stem), []).append(path)

    def find(self, name: str, split: str = "") -> list[Path]:
        """Files that a name may mean, with or without folders, suffix and ``COCO_train2014_``.

        Files in folders that the name contradicts are none of them. Where one of several lies in a
        folder of the given split, that one is meant.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts:
            return []
        last = parts[-1]
        stem = PurePosixPath(last).stem if PurePosixPath(last).suffix.lower() in IMAGE_SUFFIXES else last
        candidates = self._by_name.get(last) or self._by_stem.get(_bare(stem), [])
        fitting = [path for path in candidates if _fits(path.relative_to(self.root).parts[:-1], parts[:-1])]
        if len(fitting) > 1 and split:
            in_split = [path for path in fitting if _split_of_name(path.parent) == split]
            fitting = in_split or fitting
        return fitting


def _fits(place: Sequence[str], asked: Sequence[str]) -> bool:
    """Whether the shorter of two chains of folders ends the longer one."""
    shared = min(len(place), len(asked))
    return shared == 0 or tuple(place[-shared:]) == tuple(asked[-shared:])


def _bare(stem: str) -> str:
    """A photo's name; COCO's number alone, by which the same photo is known in every set."""
    match = _COCO_NAME.match(stem)
    return match[1] if match else stem.strip()


def _photo_folder(base: Path, given: Path | None) -> Path:
    if given is None:
        return base
    for path in (base / given, given):
        if path.is_dir():
            return path
    raise DataError(f"{given} is no folder, in {base} or here: --images takes the folder of the photos")


class _Gathered:
    """Photos and their rows, merged as they are read."""

    def __init__(self, files: _PhotoFiles, problems: Problems) -> None:
        self.files = files
        self.problems = problems
        self._photos: dict[Path, SourcePhoto] = {}
        self._unfound: set[str] = set()
        self._moved: set[Path] = set()

    def photo(self, name: str, frame: tuple[float, float] | None, split: str = "") -> SourcePhoto | None:
        """The photo of a name; None, and counted once, where there is no such file."""
        found = self.files.find(name, split)
        if len(found) != 1:
            if name not in self._unfound:
                self._unfound.add(name)
                kind = "photos whose name several files have" if found else "photos without a file"
                self.problems.add(kind, name)
            return None
        file = found[0]
        photo = self._photos.setdefault(file, SourcePhoto(file, _bare(file.stem), frame, split))
        if split and photo.split != split:
            if photo.split and file not in self._moved:
                self._moved.add(file)
                self.problems.note("photos that the set divides between splits, all held back", name)
            photo.split = max(photo.split or split, split, key=_HELD_BACK.index)
        if photo.frame != frame:
            self.problems.add("photos of which two sizes are given", name)
            return None
        return photo

    def add(
        self, photo: SourcePhoto, key: Hashable, kind: str, texts: Iterable[str], boxes: Iterable[RawBox]
    ) -> None:
        """Wordings and boxes of what `key` stands for in the photo; what is there already is not repeated."""
        cleaned = [text for raw in texts if (text := _clean(raw))]
        if not cleaned:
            self.problems.add("texts that are empty", photo.file.name)
            return
        row = photo.rows.setdefault(key, Row(kind))
        row.texts += [text for text in dict.fromkeys(cleaned) if text not in row.texts]
        row.boxes += [box for box in dict.fromkeys(boxes) if box not in row.boxes]

    def finished(self) -> list[SourcePhoto]:
        """All photos with a text, under names of their own, in the order of these.

        Captions alone say nothing about places: photos with nothing else are left out.
        """
        for file, photo in list(self._photos.items()):
            if not photo.rows:
                del self._photos[file]
            elif all(row.kind == CAPTION and not row.boxes for row in photo.rows.values()):
                self.problems.note("photos with captions and no boxes, left out", file.name)
                del self._photos[file]
        named: dict[str, list[SourcePhoto]] = {}
        for photo in self._photos.values():
            named.setdefault(photo.name, []).append(photo)
        chosen: dict[str, SourcePhoto] = {}
        for name, photos in named.items():
            for photo in photos:
                # Folders of categories or splits repeat names.
                photo.name = name if len(photos) == 1 else f"{photo.file.parent.name}_{name}"
                if chosen.setdefault(photo.name, photo) is not photo:
                    self.problems.add("photos of the same name", str(photo.file))
        return [chosen[name] for name in sorted(chosen)]


def _clean(text: str) -> str:
    """A text on one line that does not fall apart where wordings are separated."""
    return " ".join(text.split()).replace(" / ", "/").strip(" /")


# COCO's JSON


def _read_coco_files(tables: Sequence[Path], gathered: _Gathered) -> DatasetInfo:
    """Instances, captions and grounded phrases of all files; names such as ``val2017`` divide them."""
    named = [_split_of_name(table) for table in tables]
    divided = len(set(named)) > 1 and all(named)
    about: dict[str, Any] = {}
    for table, split in zip(tables, named, strict=True):
        content = _read_json(table)
        about = about or (content["info"] if isinstance(content.get("info"), dict) else {})
        _read_coco(content, split if divided else "", gathered)
    known = {key: value for key, value in about.items() if isinstance(value, str)}
    return DatasetInfo(name=known.get("description", ""), source=known.get("url", ""))


def _read_coco(content: dict[str, Any], split: str, gathered: _Gathered) -> None:
    problems = gathered.problems
    categories = _categories(content)
    images = _by_id(content["images"])
    grounded: dict[tuple[Path, str], tuple[SourcePhoto, list[RawBox]]] = {}
    for annotation in content["annotations"]:
        image = _looked_up(images, annotation.get("image_id"))
        photo = _annotated(annotation, image, split, gathered)
        if image is None or photo is None:
            continue
        if "bbox" not in annotation and isinstance(annotation.get("caption"), str):
            gathered.add(photo, CAPTION, CAPTION, [annotation["caption"]], ())
            continue
        box = _sized_box(annotation.get("bbox"))
        named = f"{annotation.get('id', '?')} of {image['file_name']}"
        category = _looked_up(categories, annotation.get("category_id"))
        if box is None:
            problems.add("annotations without a box of four numbers", named)
        elif _is_grounded(annotation, image):
            text = _grounded_text(annotation, image)
            if text is None:
                problems.add("annotations whose words are not in their sentence", named)
            else:
                grounded.setdefault((photo.file, text), (photo, []))[1].append(box)
        elif category is None:
            problems.add("annotations of categories that the file does not list", named)
        else:
            if annotation.get("iscrowd"):
                problems.note("groups that one box holds (iscrowd)", f"{category} in {image['file_name']}")
            gathered.add(photo, ("category", category), "noun", [_with_article(category)], [box])
    # Sentences about one photo name the same things in several wordings.
    for (_, text), (photo, boxes) in grounded.items():
        gathered.add(photo, ("boxes", tuple(sorted(set(boxes)))), "phrase", [text], boxes)


def _annotated(
    annotation: dict[str, Any], image: dict[str, Any] | None, split: str, gathered: _Gathered
) -> SourcePhoto | None:
    """The photo of an annotation; None, and counted, where there is none."""
    if image is None or not isinstance(image.get("file_name"), str):
        gathered.problems.add(
            "annotations of photos that the file does not list", str(annotation.get("id", "?"))
        )
        return None
    return gathered.photo(image["file_name"], _frame(image.get("width"), image.get("height")), split)


def _categories(content: dict[str, Any]) -> dict[Any, str]:
    """Names of categories by number."""
    return {
        number: category["name"]
        for number, category in _by_id(content.get("categories")).items()
        if isinstance(category.get("name"), str)
    }


def _is_grounded(annotation: dict[str, Any], image: dict[str, Any]) -> bool:
    """Whether an annotation names its box in words, its own or those of its photo's sentence."""
    return any(
        isinstance(said, str)
        for said in (annotation.get("phrase"), annotation.get("caption"), image.get("caption"))
    )


def _grounded_text(annotation: dict[str, Any], image: dict[str, Any]) -> str | None:
    """What an annotation names: its own words, or spans of its photo's sentence; None if neither."""
    for key in ("phrase", "caption"):
        if isinstance(annotation.get(key), str):
            return str(annotation[key])
    sentence = str(image["caption"])
    # A referring expression means its one box as a whole, whichever of its words are marked.
    if str(image.get("dataset_name", "")).lower().startswith("refcoco"):
        return sentence
    spans = annotation.get("tokens_positive")
    if not isinstance(spans, list) or not spans:
        return None
    words = []
    for span in spans:
        ends = _numbers(span, 2)
        if ends is None or not 0 <= ends[0] < ends[1] <= len(sentence):
            return None
        words.append(sentence[int(ends[0]) : int(ends[1])])
    return " ".join(words)


def _with_article(name: str) -> str:
    """A category as people name one of it.

    >>> _with_article("umbrella"), _with_article("traffic light"), _with_article("scissors")
    ('an umbrella', 'a traffic light', 'scissors')
    """
    words = " ".join(name.replace("_", " ").split())
    if not words or _PLURAL.search(words):
        return words
    return f"{'an' if words[0].lower() in 'aeiou' else 'a'} {words}"


def _read_json(path: Path) -> dict[str, Any]:
    """A COCO file without its outlines, which take most of its memory.

    Raises:
        DataError: the file is unreadable, no JSON, or has no lists of images and annotations.
    """

    def without_outline(part: dict[str, Any]) -> dict[str, Any]:
        part.pop("segmentation", None)
        return part

    try:
        content: Any = json.loads(path.read_bytes(), object_hook=without_outline)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"cannot read {path}: {str(error).splitlines()[0]}; COCO's JSON was expected"
        ) from error
    if not isinstance(content, dict) or not all(
        map(_is_objects, map(content.get, ("images", "annotations")))
    ):
        raise DataError(f"{path} has no lists of images and annotations: COCO's JSON was expected")
    return content


def _is_objects(items: Any) -> bool:
    return isinstance(items, list) and all(isinstance(item, dict) for item in items)


def _by_id(items: Any) -> dict[Any, dict[str, Any]]:
    """Objects of a list by their number; other things are passed over."""
    known = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return {item["id"]: item for item in known if isinstance(item.get("id"), int | str)}


# RefCOCO's pickles

_NUMBERED = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
"""Codes of a pickle that store something at a place, by its number."""


class _PlainUnpickler(pickle.Unpickler):
    """Reads containers, strings and numbers; a pickle that names anything else is refused before it runs."""

    def find_class(self, module: str, name: str) -> Any:
        # Sets have no code of their own in older pickles; all else that is plain has.
        if module in ("builtins", "__builtin__") and name in ("set", "frozenset"):
            return set if name == "set" else frozenset
        raise _UnsafeError(f"{module}.{name}")


class _UnsafeError(Exception):
    """A pickle or an XML file holds what data has no need of."""


def _unpickle(path: Path) -> Any:
    """Content of a pickle of plain data.

    Raises:
        DataError: the file is unreadable, damaged, or names a class or function.
    """
    try:
        data = path.read_bytes()
        _refuse_far_places(data)
        # Python 2 wrote the published files: its strings are bytes.
        return _PlainUnpickler(io.BytesIO(data), encoding="utf-8", errors="replace").load()
    except _UnsafeError as error:
        raise DataError(
            f"{path} holds {error}: refused and not run, since references are lists, texts and numbers only"
        ) from error
    except Exception as error:  # a damaged pickle may raise anything
        raise DataError(
            f"{path} is no readable pickle: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error


def _refuse_far_places(data: bytes) -> None:
    """Refuse a pickle that numbers its parts beyond its own length: a list so long would be made for nothing."""
    for code, number, _ in pickletools.genops(data):
        if code.name in _NUMBERED and not 0 <= int(number or 0) <= len(data):
            raise _UnsafeError("a place beyond its end")


def _read_references(table: Path, gathered: _Gathered) -> DatasetInfo:
    """Referring expressions of one pickle, with the boxes from ``instances.json`` beside it."""
    beside = table.parent / "instances.json"
    if not beside.is_file():
        others = [path for path in files_in(table.parent, {".json"}) if _is_coco(path)]
        if len(others) != 1:
            raise DataError(f"{table} has no instances.json beside it, which holds the boxes: copy it there")
        beside = others[0]
    references = _unpickle(table)
    if not isinstance(references, list) or not all(isinstance(one, dict) for one in references):
        raise DataError(f"{table} is no list of references: refs(unc).p or the like was expected")
    content = _read_json(beside)
    images, objects = _by_id(content["images"]), _by_id(content["annotations"])
    problems = gathered.problems
    for reference in references:
        name = f"reference {reference.get('ref_id', '?')}"
        image, thing = (
            _looked_up(images, reference.get("image_id")),
            _looked_up(objects, reference.get("ann_id")),
        )
        split = _SPLITS.get(str(reference.get("split", "")).lower(), "")
        box = _sized_box(thing.get("bbox")) if thing is not None else None
        sentences = reference.get("sentences")
        if image is None or not isinstance(image.get("file_name"), str):
            problems.add(f"references to photos that {beside.name} does not list", name)
        elif box is None:
            problems.add(f"references without a box in {beside.name}", name)
        elif not split:
            problems.add("references without a split", name)
        elif not isinstance(sentences, list):
            problems.add("references without sentences", name)
        else:
            photo = gathered.photo(image["file_name"], _frame(image.get("width"), image.get("height")), split)
            texts = [
                str(sentence.get("sent") or sentence.get("raw") or "")
                for sentence in sentences
                if isinstance(sentence, dict)
            ]
            if photo is not None:
                gathered.add(photo, reference["ann_id"], "expression", texts, [box])
    return DatasetInfo(name=table.parent.name)


def _looked_up(items: Mapping[Any, T], key: Any) -> T | None:
    return items.get(key) if isinstance(key, int | str) else None


# Flickr30k Entities


def _entities_folder(source: Path) -> Path | None:
    """The folder that holds ``Sentences`` and ``Annotations``, the source or one below it."""
    for folder in (source, *folders_in(source)):
        if {"sentences", "annotations"} <= {path.name.lower() for path in folders_in(folder)}:
            return folder
    return None


def _read_entities(folder: Path, gathered: _Gathered) -> None:
    places = {path.name.lower(): path for path in folders_in(folder)}
    if not {"sentences", "annotations"} <= set(places):
        raise DataError(f"{folder} {_MISSING[LayoutName.flickr30k]}")
    splits = _listed_splits(folder)
    problems = gathered.problems
    for path in files_in(places["sentences"], {".txt"}):
        split = splits.get(path.stem, "")
        drawn = places["annotations"] / f"{path.stem}.xml"
        try:
            sentences = path.read_text(encoding="utf-8-sig")
            frame, boxes, scenes, unseen = _entity_boxes(drawn)
        except DataError as error:
            problems.add("files that cannot be used", f"{drawn.name} [{error}]")
            continue
        except (OSError, UnicodeDecodeError) as error:
            problems.add("files that cannot be used", f"{path.name} [{error}]")
            continue
        photo = gathered.photo(path.stem, frame, split)
        if photo is None:
            continue
        for match in _ENTITY.finditer(sentences):
            number, text = match["number"], match["text"]
            kind = (match["kind"] or "phrase").split("/")[0]
            if number in boxes:
                gathered.add(photo, number, kind, [text], boxes[number])
            elif number in scenes:
                gathered.add(photo, number, "scene", [text], ())
            elif number == "0" or number in unseen:
                problems.note("phrases that name nothing in the photo, left out", f"{text} in {path.stem}")
            else:
                problems.add("phrases without a box", f"{text} in {path.stem}")


def _listed_splits(folder: Path) -> dict[str, str]:
    """Splits by photo from ``train.txt``, ``val.txt`` and ``test.txt``, where they are."""
    found: dict[str, str] = {}
    for path in files_in(folder, {".txt"}):
        split = _SPLITS.get(path.stem.lower())
        if split:
            found |= dict.fromkeys(path.read_text(encoding="utf-8-sig", errors="replace").split(), split)
    return found


class _NoDoctype(ET.TreeBuilder):
    """Refuses a DOCTYPE, the only place where entities can be declared."""

    def doctype(self, _name: str, _public: str, _system: str) -> NoReturn:
        """Refuse it before anything in it is read."""
        raise _UnsafeError("a DOCTYPE, refused since it may declare entities")


def _entity_boxes(
    path: Path,
) -> tuple[tuple[float, float] | None, dict[str, list[RawBox]], set[str], set[str]]:
    """Size of the photo, boxes by entity, entities that are the whole scene, and those that cannot be seen.

    Raises:
        DataError: the file is missing, no XML, or declares entities of its own.
    """
    parser = ET.XMLParser(target=_NoDoctype())  # noqa: S314 - see the class
    try:
        parser.feed(path.read_bytes())
        root = parser.close()
    except _UnsafeError as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise DataError(error.strerror or str(error)) from error
    except (ET.ParseError, ValueError, LookupError) as error:
        raise DataError(f"no readable XML: {error}") from error
    boxes: dict[str, list[RawBox]] = {}
    scenes: set[str] = set()
    unseen: set[str] = set()
    for thing in root.iter("object"):
        names = [(name.text or "").strip() for name in thing.iter("name")]
        corners = [thing.findtext(f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")]
        box = _numbers(corners, 4)
        if box is not None:
            for name in names:
                boxes.setdefault(name, []).append((box[0], box[1], box[2], box[3]))
        elif thing.findtext("scene", "0").strip() == "1":
            scenes.update(names)
        elif thing.findtext("nobndbox", "0").strip() == "1":
            unseen.update(names)
    return _frame(root.findtext("size/width"), root.findtext("size/height")), boxes, scenes, unseen


# Plain tables


@dataclass(frozen=True)
class _Headings:
    """Columns of a table of texts with boxes."""

    image: str
    text: str
    boxes: str | None
    edges: tuple[str, ...]
    """Four columns of numbers, where there is no column of boxes."""
    sized: bool
    """Whether the last two numbers are a width and a height."""
    kind: str | None
    split: str | None
    frame: tuple[str, str] | None


def _headings(row: Mapping[str, Any], options: PrepareOptions) -> _Headings | str:
    """The columns of a table; or what it lacks, as the end of a sentence."""
    simple = {_simple(name): name for name in reversed([name for name in row if isinstance(name, str)])}
    columns = options.columns
    image = find_column(row, columns.image if columns else None, IMAGE_COLUMNS)
    text = find_column(row, columns.text if columns else None, _TEXT_COLUMNS)
    boxes = find_column(row, None, _BOX_COLUMNS)
    corners = next((group for group in _CORNERS if set(group) <= set(simple)), None)
    sizes = next((group for group in _SIZES if set(group) <= set(simple)), None)
    edges = () if boxes else corners or sizes or ()
    for column, label, option in (
        (image, "image", "; name it with --image-column"),
        (text, "phrase", "; name it with --text-column"),
        (boxes or edges, "boxes", " (or x0, y0, x1, y1, or x, y, w, h)"),
    ):
        if not column:
            return f"has no column like {label}{option}: found {', '.join(map(str, row)) or 'no heading'}"
    assert image is not None
    assert text is not None
    frame = next((pair for pair in _FRAMES if set(pair) <= set(simple) - set(edges)), None)
    return _Headings(
        image,
        text,
        boxes,
        tuple(simple[edge] for edge in edges),
        sized=not boxes and corners is None,
        kind=find_column(row, None, _KIND_COLUMNS),
        split=find_column(row, None, _SPLIT_COLUMNS),
        frame=(simple[frame[0]], simple[frame[1]]) if frame else None,
    )


def _read_table(path: Path, split: str, options: PrepareOptions, gathered: _Gathered) -> None:
    rows = read_csv(path)
    headings = _headings(rows[0], options) if rows else "has no rows"
    if isinstance(headings, str):
        raise DataError(f"{path} {headings}")
    problems = gathered.problems
    read: list[tuple[int, dict[str, Any], list[RawBox]]] = []
    for line, row in enumerate(rows, 2):
        boxes = _boxes_of_row(row, headings)
        if boxes is None:
            problems.add(f"rows of {path.name} whose boxes are no numbers by four", f"line {line}")
        else:
            read.append((line, row, boxes))
    every = [box for _, _, boxes in read for box in boxes]
    sized = _is_sized(path, every, headings, options.box_form)
    if sized:
        every = [_moved(box) for box in every]
    shares = _is_shares(path, every, options.box_unit)
    for line, row, boxes in read:
        image, said = _cell(row, headings.image), _cell(row, headings.text)
        texts = [text for text in said.split(" / ") if _clean(text)]
        own = _cell(row, headings.split)
        if not image or not texts:
            problems.add(f"rows of {path.name} without {'a text' if image else 'an image'}", f"line {line}")
        elif own and own.lower() not in _SPLITS:
            problems.add(f"rows of {path.name} whose split is not train, val or test", f"line {line} {own!r}")
        else:
            frame = SHARES if shares else None
            if headings.frame is not None and not shares:
                frame = _frame(*(_cell(row, column) for column in headings.frame))
            photo = gathered.photo(image, frame, _SPLITS.get(own.lower(), split))
            if photo is not None:
                kind = _cell(row, headings.kind) or "phrase"
                # One row for each instance, or one for all of them.
                gathered.add(
                    photo,
                    (kind, tuple(texts)),
                    kind,
                    texts,
                    [_moved(box) for box in boxes] if sized else boxes,
                )


def _boxes_of_row(row: Mapping[str, Any], headings: _Headings) -> list[RawBox] | None:
    """Numbers of a row's boxes, none where the cells are empty; None if they are no numbers by four."""
    if headings.boxes is None:
        cells = [_cell(row, column) for column in headings.edges]
        parts = [cells] if any(cells) else []
    else:
        cell = _cell(row, headings.boxes)
        inner = re.sub(r"\]\s*,\s*\[|\)\s*,\s*\(", ";", cell)
        parts = [
            re.split(r"[,\s]+", part.strip())
            for part in re.sub(r"[\[\]()]", "", inner).split(";")
            if part.strip()
        ]
    boxes = [_numbers(part, 4) for part in parts]
    return [(box[0], box[1], box[2], box[3]) for box in boxes if box] if all(boxes) else None


def _is_sized(path: Path, boxes: Sequence[RawBox], headings: _Headings, form: BoxForm) -> bool:
    """Whether boxes are x, y, width, height: by the option, the columns, or refused where it is not clear."""
    if form is not BoxForm.auto:
        return form is BoxForm.sizes
    if headings.sized:
        return True
    backwards = [box for box in boxes if box[2] < box[0] or box[3] < box[1]]
    if len(backwards) > _BACKWARDS * len(boxes):
        shown = ",".join(f"{edge:g}" for edge in backwards[0])
        raise DataError(
            f"{path}: {len(backwards)} of {len(boxes)} boxes run backwards as x0,y0,x1,y1 ({shown}): say --box-form sizes if they are x,y,width,height, or --box-form corners"
        )
    return False


def _is_shares(path: Path, boxes: Sequence[RawBox], unit: BoxUnit) -> bool:
    """Whether boxes are in shares: by the option, by their values, or refused where these disagree."""
    if unit is not BoxUnit.auto:
        return unit is BoxUnit.shares
    small = sum(max(box) <= _LARGEST_SHARE for box in boxes)
    if 0 < small < len(boxes):
        raise DataError(
            f"{path}: {small} of {len(boxes)} boxes lie within 0..1 and the others do not: say --box-unit pixels or --box-unit shares"
        )
    return small == len(boxes)


def _moved(box: RawBox) -> RawBox:
    """Corners of x, y, width, height."""
    return box[0], box[1], box[0] + box[2], box[1] + box[3]


# Small things


def _numbers(values: Any, count: int) -> list[float] | None:
    """So many finite numbers, given as numbers or texts; None if they are anything else."""
    if not isinstance(values, list | tuple) or len(values) != count:
        return None
    try:
        numbers = [math.nan if isinstance(value, bool) else float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _sized_box(values: Any) -> RawBox | None:
    box = _numbers(values, 4)
    return _moved((box[0], box[1], box[2], box[3])) if box else None


def _frame(width: Any, height: Any) -> tuple[float, float] | None:
    """A size that a source gives; None where it gives none, or none that can be."""
    size = _numbers([width, height], 2)
    return (size[0], size[1]) if size and min(size) > 0 else None


def _split_of_name(path: Path) -> str:
    """The split that the words of a file's name stand for; empty if none or several do."""
    words = {_SPLITS[word.lower()] for word in _WORD.findall(path.stem) if word.lower() in _SPLITS}
    return words.pop() if len(words) == 1 else ""


def _simple(name: str) -> str:
    return name.strip().lower().replace("_", "").replace(" ", "")


def _cell(row: Mapping[str, Any], column: str | None) -> str:
    value = row.get(column) if column else None
    return value.strip() if isinstance(value, str) else ""


def _single(tables: Sequence[Path], source: Path) -> Path:
    """The only table.

    Raises:
        DataError: there are several.
    """
    if len(tables) > 1:
        raise DataError(
            f"{source} has several tables of texts with boxes ({', '.join(table.name for table in tables)}): give one of them in place of the folder"
        )
    return tables[0]


def _holds(path: Path, *words: bytes) -> bool:
    """Whether a file holds these words, whatever its size."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return all(content.find(word) >= 0 for word in words)
    except (OSError, ValueError):
        return False


def _is_coco(path: Path) -> bool:
    return _holds(path, b'"images"', b'"annotations"')


def _is_references(path: Path) -> bool:
    return _holds(path, b"sentences", b"ann_id")


def _is_table(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            heading = file.readline(10_000)
    except OSError:
        return False
    names = {_simple(name.strip('"')) for name in re.split(r"[,;\t]", heading.strip())}
    return bool(names & set(_BOX_COLUMNS)) or any(set(group) <= names for group in (*_CORNERS, *_SIZES))


_READ_AS: dict[str, tuple[LayoutName, Callable[[Path], bool]]] = {
    ".json": (LayoutName.coco, _is_coco),
    ".p": (LayoutName.refcoco, _is_references),
    ".pkl": (LayoutName.refcoco, _is_references),
    ".pickle": (LayoutName.refcoco, _is_references),
    ".csv": (LayoutName.csv, _is_table),
    ".tsv": (LayoutName.csv, _is_table),
}
"""Layout and test of content by suffix."""

_MISSING = {
    LayoutName.coco: "has no .json with images and annotations, here or in annotations/: COCO's instances, captions or grounded phrases were expected",
    LayoutName.refcoco: "has no pickle of references, such as refs(unc).p",
    LayoutName.flickr30k: "does not hold the folders Sentences and Annotations of Flickr30k Entities",
    LayoutName.csv: "has no .csv or .tsv with a column of boxes (boxes; x0, y0, x1, y1; or x, y, w, h)",
}
