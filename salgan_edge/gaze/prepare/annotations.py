"""Texts with boxes as others publish them: COCO's JSON, RefCOCO's pickles, Flickr30k Entities."""

from __future__ import annotations

import io
import json
import mmap
import pickle
import pickletools
import re
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from xml.etree import ElementTree as ET

from salgan_edge.errors import DataError
from salgan_edge.gaze.folder import DatasetInfo
from salgan_edge.gaze.prepare.gathered import (
    CAPTION,
    SPLIT_WORDS,
    corners_of,
    finite_numbers,
    frame_of,
    split_of_name,
)
from salgan_edge.gaze.prepare.gaze_sources import files_in, folders_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from salgan_edge.gaze.prepare.gathered import Gathered, RawBox, SourcePhoto

    T = TypeVar("T")

__all__ = ["entities_folder", "holds", "is_coco", "read_coco", "read_entities", "read_references"]

_PLURAL = re.compile(r"(?:[^siu]s|skis)$")
"""Names such as scissors and skis, which take no article."""

_ENTITY = re.compile(r"\[/EN#(?P<number>\d+)(?:/(?P<kind>[^ \]]+))? (?P<text>[^\]]+)\]")


# COCO's JSON


def read_coco(tables: Sequence[Path], gathered: Gathered) -> DatasetInfo:
    """Instances, captions and grounded phrases of all files; names such as ``val2017`` divide them."""
    named = [split_of_name(table) for table in tables]
    divided = len(set(named)) > 1 and all(named)
    about: dict[str, Any] = {}
    for table, split in zip(tables, named, strict=True):
        content = _read_json(table)
        about = about or (content["info"] if isinstance(content.get("info"), dict) else {})
        _add_coco(content, split if divided else "", gathered)
    known = {key: value for key, value in about.items() if isinstance(value, str)}
    return DatasetInfo(name=known.get("description", ""), source=known.get("url", ""))


def _add_coco(content: dict[str, Any], split: str, gathered: Gathered) -> None:
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
    annotation: dict[str, Any], image: dict[str, Any] | None, split: str, gathered: Gathered
) -> SourcePhoto | None:
    """The photo of an annotation; None, and counted, where there is none."""
    if image is None or not isinstance(image.get("file_name"), str):
        gathered.problems.add(
            "annotations of photos that the file does not list", str(annotation.get("id", "?"))
        )
        return None
    return gathered.photo(image["file_name"], frame_of(image.get("width"), image.get("height")), split)


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
        ends = finite_numbers(span, 2)
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
            f"{path} is not a readable pickle: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error


def _refuse_far_places(data: bytes) -> None:
    """Refuse a pickle that numbers its parts beyond its own length, for which the reader would reserve memory."""
    for code, number, _ in pickletools.genops(data):
        if code.name in _NUMBERED and not 0 <= int(number or 0) <= len(data):
            raise _UnsafeError("a place beyond its end")


def read_references(table: Path, gathered: Gathered) -> DatasetInfo:
    """Referring expressions of one pickle, with the boxes from ``instances.json`` beside it."""
    beside = table.parent / "instances.json"
    if not beside.is_file():
        others = [path for path in files_in(table.parent, {".json"}) if is_coco(path)]
        if len(others) != 1:
            raise DataError(f"{table} has no instances.json beside it, which holds the boxes: copy it there")
        beside = others[0]
    references = _unpickle(table)
    if not isinstance(references, list) or not all(isinstance(one, dict) for one in references):
        raise DataError(f"{table} is not a list of references: refs(unc).p or the like was expected")
    content = _read_json(beside)
    images, objects = _by_id(content["images"]), _by_id(content["annotations"])
    problems = gathered.problems
    for reference in references:
        name = f"reference {reference.get('ref_id', '?')}"
        image, thing = (
            _looked_up(images, reference.get("image_id")),
            _looked_up(objects, reference.get("ann_id")),
        )
        split = SPLIT_WORDS.get(str(reference.get("split", "")).lower(), "")
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
            photo = gathered.photo(
                image["file_name"], frame_of(image.get("width"), image.get("height")), split
            )
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


def entities_folder(source: Path) -> Path | None:
    """The folder that holds ``Sentences`` and ``Annotations``, the source or one below it."""
    for folder in (source, *folders_in(source)):
        if {"sentences", "annotations"} <= {path.name.lower() for path in folders_in(folder)}:
            return folder
    return None


def read_entities(folder: Path, gathered: Gathered) -> None:
    """Phrases of Flickr30k Entities, with the boxes of the same number; `folder` is of `entities_folder`."""
    places = {path.name.lower(): path for path in folders_in(folder)}
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
        split = SPLIT_WORDS.get(path.stem.lower())
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
        box = finite_numbers(corners, 4)
        if box is not None:
            for name in names:
                boxes.setdefault(name, []).append((box[0], box[1], box[2], box[3]))
        elif thing.findtext("scene", "0").strip() == "1":
            scenes.update(names)
        elif thing.findtext("nobndbox", "0").strip() == "1":
            unseen.update(names)
    return frame_of(root.findtext("size/width"), root.findtext("size/height")), boxes, scenes, unseen


# Boxes and kinds of files


def _sized_box(values: Any) -> RawBox | None:
    box = finite_numbers(values, 4)
    return corners_of((box[0], box[1], box[2], box[3])) if box else None


def holds(path: Path, *words: bytes) -> bool:
    """Whether a file holds these words; it is searched without being read into memory."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return all(content.find(word) >= 0 for word in words)
    except (OSError, ValueError):
        return False


def is_coco(path: Path) -> bool:
    """Whether a JSON file has the keys of COCO's, without decoding it."""
    return holds(path, b'"images"', b'"annotations"')
