"""Things that texts name in photos, and the targets made of their boxes: what any word is learned from.

Three kinds of tables are found in a data folder: ``phrases/labels.csv`` (this project's texts with
boxes), folders of ``phrases/`` with ``phrases.csv`` (public sets, and what ``salgan-edge data
prepare`` packs), and, for composites, those among them whose photos show a single thing.

Targets teach the generator to obey: a Gaussian in each box of the named thing, plus a share of the
photo's free-viewing map, since people told to look for a dog still look elsewhere. How wide and how
large a share is measured on people, by ``fit_targets``.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from salgan_edge.train.data.text_vectors import name_variants

from salgan_edge.gaze.detector import class_prompt
from salgan_edge.gaze.phrases import PhraseSet, mirrored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from salgan_edge.gaze.detector import Detection
    from salgan_edge.gaze.phrases import Box, Phrase

__all__ = [
    "TARGETS",
    "Named",
    "TargetShape",
    "box_map",
    "find_phrase_sets",
    "has_texts",
    "named_photos",
    "object_map",
    "prompts_for",
    "single_things",
    "texts_of",
]

_LARGEST = 0.7
"""Boxes that cover more of the photo than this say nothing about where to look."""
_PEOPLE = "ccp"
"""The set whose photos show one dressed person each: they are put side by side."""


def _everything(_: str) -> bool:
    return True


@dataclass(frozen=True)
class Named:
    """A thing, or several alike, that one of several texts names."""

    texts: tuple[str, ...]
    boxes: tuple[Box, ...]
    """x0, y0, x1, y1 in shares of the photo's sides; at least one."""


def find_phrase_sets(data: Path, takes: Callable[[str], bool] = _everything) -> list[PhraseSet]:
    """All tables of texts with boxes in a data folder, ``labels.csv`` first.

    Args:
        data: folder that holds ``phrases``, or packed folders with ``phrases.csv``.
        takes: whether a set of this name is wanted; ``labels.csv`` is called ``labels``.

    Raises:
        DataError: a table is wrong.
    """
    tables = [data / "phrases" / "labels.csv"] if takes("labels") else []
    tables += sorted(
        table for pattern in ("*/phrases.csv", "phrases/*/phrases.csv") for table in data.glob(pattern)
    )
    return [
        PhraseSet(table if table.name == "labels.csv" else table.parent, data)
        for table in tables
        if table.is_file() and (table.name == "labels.csv" or takes(table.parent.name))
    ]


def has_texts(pairs: Path) -> bool:
    """Whether a ``pairs.csv`` holds gaze of people who were told something, not of free viewing alone."""
    with pairs.open(newline="", encoding="utf-8-sig") as file:
        return any(row.get("text") for row in csv.DictReader(file))


def named_photos(
    sets: Iterable[PhraseSet], splits: Sequence[str], takes: Callable[[str], bool] = _everything
) -> tuple[dict[str, list[Named]], dict[str, Path]]:
    """Named things by photo ``SET/NAME``, and the photos' files.

    Photos that show a single thing, or one dressed person, are left to the composites: a thing in
    the middle of its photo is looked at anyway.
    """
    found: dict[str, list[Named]] = {}
    files: dict[str, Path] = {}
    for table in sets:
        if table.name == _PEOPLE:
            continue
        for photo, phrases in table.select(*splits).items():
            if not takes(photo.split("/")[0]):
                continue
            things = [
                Named(phrase.texts, phrase.boxes)
                for phrase in phrases
                if phrase.boxes and phrase.area <= _LARGEST
            ]
            if things and not _is_single(phrases):
                found.setdefault(photo, []).extend(things)
                files[photo] = table.file(photo)
    return found, files


def single_things(
    sets: Iterable[PhraseSet], splits: Sequence[str], takes: Callable[[str], bool] = _everything
) -> tuple[list[tuple[Path, Named]], list[tuple[Path, list[Named]]]]:
    """What composites are made of.

    Returns:
        Photos of a single thing with its name and box (the whole photo where none is known), and
        photos of one dressed person with all that is named in them; the person comes first.
    """
    things: list[tuple[Path, Named]] = []
    people: list[tuple[Path, list[Named]]] = []
    whole: Box = (0.05, 0.05, 0.95, 0.95)
    for table in sets:
        for photo, phrases in table.select(*splits).items():
            if not takes(photo.split("/")[0]):
                continue
            if table.name == _PEOPLE:
                ordered = sorted(phrases, key=lambda phrase: phrase.kind != "person")
                people.append((table.file(photo), [Named(p.texts, p.boxes) for p in ordered]))
            elif _is_single(phrases):
                texts = tuple(text for phrase in phrases for text in phrase.texts)
                things.append((table.file(photo), Named(texts, phrases[0].boxes or (whole,))))
    return things, people


def texts_of(named: Iterable[Named]) -> set[str]:
    """All texts, and what they become in a mirrored photo."""
    texts = {text for thing in named for text in thing.texts}
    return texts | {mirrored(text) for text in texts}


def _is_single(phrases: Sequence[Phrase]) -> bool:
    """Whether a photo shows one thing: nothing is placed in it, or one box of a set of such photos."""
    return all(not phrase.boxes for phrase in phrases) or (len(phrases) == 1 and phrases[0].kind == "box")


_FREE_VIEW_SHARE = 0.35
_WIDER = 0.5
"""Exponent that widens the Gaussian where gaze decides the place within a box."""
_UNSEEN = 0.25
"""Weight of places in a box that nobody looked at."""
_UNNOTICED = 0.2
"""Free viewing below about this much of its peak says little about where in a box people look."""

_SYNONYMS = {
    "person": ("a man", "a woman", "people", "a person"),
    "tv": ("a screen", "a television"),
    "couch": ("a sofa",),
    "cell phone": ("a phone", "a mobile phone"),
    "airplane": ("a plane",),
    "motorcycle": ("a motorbike",),
    "potted plant": ("a plant",),
    "dining table": ("a table",),
    "bicycle": ("a bike",),
    "donut": ("a doughnut",),
}
_PLURALS = {"person": "people", "bus": "buses", "bench": "benches", "sheep": "sheep", "knife": "knives",
            "wine glass": "wine glasses", "sandwich": "sandwiches", "couch": "couches", "toothbrush": "toothbrushes",
            "skis": "skis", "scissors": "scissors"}  # fmt: skip


@dataclass(frozen=True)
class TargetShape:
    """How a box becomes a target."""

    spread: float
    """Standard deviation of the Gaussian as a share of the box's sides."""
    blur: float
    """Standard deviation that is added in quadrature, as a share of the photo's sides: gaze on a small thing scatters."""
    floor: float
    """What a place is worth that nobody looks at when told nothing; the place most looked at is worth `floor` + 1."""
    share: float
    """Of the free-viewing map that is added to the largest value of 1."""


TARGETS = {"people": TargetShape(spread=0.35, blur=0.06, floor=0.5, share=0.35)}
"""Shapes by the name that `TrainConfig.object_target` gives them."""


def box_map(
    boxes: Sequence[tuple[float, float, float, float]],
    free_view: npt.NDArray[np.float32],
    shape: TargetShape = TARGETS["people"],
) -> npt.NDArray[np.float32]:
    """Target on the grid of `free_view` (h, w): where people look who are told what the boxes hold.

    Args:
        boxes: x0, y0, x1, y1 in shares of width and height.
        free_view: where people look when told nothing, largest value 1.
        shape: see `TargetShape`.
    """
    height, width = free_view.shape
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / width
    objects = np.zeros_like(free_view)
    for x0, y0, x1, y1 in boxes:
        sigma_x = np.hypot((x1 - x0) * shape.spread, shape.blur)
        sigma_y = np.hypot((y1 - y0) * shape.spread, shape.blur)
        bump = np.exp(-(((x - (x0 + x1) / 2) / sigma_x) ** 2 + ((y - (y0 + y1) / 2) / sigma_y) ** 2) / 2)
        bump = bump * (shape.floor + free_view)
        objects = np.maximum(objects, bump / bump.max())
    target: npt.NDArray[np.float32] = (objects + shape.share * free_view).astype(np.float32)
    return target


def object_map(
    boxes: list[Detection],
    free_view: npt.NDArray[np.float32],
    share: float = _FREE_VIEW_SHARE,
    *,
    gaze: bool = False,
) -> npt.NDArray[np.float32]:
    """Weak target on the grid of `free_view` (h, w), whose largest value is 1.

    A Gaussian in each box, standard deviation a quarter of its sides, largest value 1; plus
    `share` of the free-viewing map.

    Args:
        boxes: objects of one class.
        free_view: where people look when told nothing, largest value 1.
        share: of the free-viewing map that is added.
        gaze: within a box, follow the free-viewing map where it says something: told "a woman",
            people look at her face, not at the middle of her box.
    """
    height, width = free_view.shape
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / width
    objects = np.zeros_like(free_view)
    for found in boxes:
        x0, y0, x1, y1 = found.box
        sigma_x, sigma_y = max((x1 - x0) / 4, 0.5 / width), max((y1 - y0) / 4, 0.5 / height)
        bump = np.exp(-(((x - (x0 + x1) / 2) / sigma_x) ** 2 + ((y - (y0 + y1) / 2) / sigma_y) ** 2) / 2)
        if gaze:
            # What lies in the box; the tail of a neighbour is too low to count.
            seen = free_view * ((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1))
            bump = bump**_WIDER * (_UNSEEN + seen / (seen.max() + _UNNOTICED))
            bump = bump / bump.max()
        objects = np.maximum(objects, bump)
    target: npt.NDArray[np.float32] = (objects + share * free_view).astype(np.float32)
    return target


def prompts_for(name: str, count: int) -> list[str]:
    """How people would name one (or several) objects of a class; the first is the class prompt."""
    texts = [class_prompt(name), *name_variants(class_prompt(name))[1:], *_SYNONYMS.get(name, ())]
    if count > 1:
        plural = _PLURALS.get(name, f"{name}s")
        texts += [plural, f"the {plural}", f"two {plural}" if count == 2 else f"several {plural}"]
    return texts
