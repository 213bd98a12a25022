"""Photos with named things: what the generator learns any word from.

Three kinds of tables are found in a data folder: ``phrases/labels.csv`` (this project's texts with
boxes), folders of ``phrases/`` with ``phrases.csv`` (public sets, and what ``salgan-edge data
prepare`` packs), and, for composites, those among them whose photos show a single thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from salgan_edge.gaze.phrases import PhraseSet, mirrored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from salgan_edge.gaze.phrases import Box, Phrase

__all__ = ["Named", "find_phrase_sets", "named_photos", "single_things", "texts_of"]

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
