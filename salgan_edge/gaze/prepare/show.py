"""What a packed folder holds, with every file read once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from salgan_edge.errors import DataError, ImageError
from salgan_edge.gaze.folder import photos
from salgan_edge.gaze.problems import Problems
from salgan_edge.gaze.split import SPLITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from salgan_edge.gaze.folder import GazeFolder, GazePair

    Progress = Callable[[Sequence[list[GazePair]]], Iterable[list[GazePair]]]

__all__ = ["Contents", "Part", "contents"]

_EXAMPLES = 2


@dataclass(frozen=True)
class Part:
    """One split, or all of them."""

    photos: int
    pairs: int
    """Photos times viewing conditions."""
    conditions: dict[str, int]
    """Pairs by condition."""
    fixations: int
    pairs_with_fixations: int
    pairs_with_maps: int
    """Pairs with a published map; the others' maps are blurred fixations."""


@dataclass(frozen=True)
class Contents:
    """A packed folder in figures."""

    folder: str
    name: str
    licence: str
    source: str
    blur_degree_share: float
    """Standard deviation of blurred fixations as a share of the width."""
    split: str
    """Rule of the splits."""
    all: Part
    splits: dict[str, Part]
    texts: dict[str, list[str]]
    """Examples by condition."""
    problems: list[str]
    """What is wrong with the files, a line for each kind; empty: all of them can be used."""


def contents(
    folder: GazeFolder, progress: Progress = lambda groups: groups, *, check: bool = True
) -> Contents:
    """Count what is there and read every photo and map.

    Args:
        folder: whose table and fixations were checked when it was read.
        progress: wraps the list of photos, to show progress.
        check: read the photos and maps; else they are counted only.
    """
    problems = Problems()
    for group in progress(list(photos(folder.pairs).values())) if check else ():
        _check_photo(folder, group, problems)
    texts: dict[str, list[str]] = {}
    for pair in folder.pairs:
        examples = texts.setdefault(pair.condition, [])
        if pair.text and len(examples) < _EXAMPLES:
            examples.append(pair.text)
    return Contents(
        folder=str(folder.folder),
        name=folder.info.name or folder.name,
        licence=folder.info.licence,
        source=folder.info.source,
        blur_degree_share=folder.info.blur_degree_share,
        split=folder.split_id,
        all=_part(folder, folder.pairs),
        splits={split: _part(folder, folder.select(split)) for split in SPLITS},
        texts={condition: examples for condition, examples in texts.items() if examples},
        problems=problems.lines(),
    )


def _check_photo(folder: GazeFolder, group: Sequence[GazePair], problems: Problems) -> None:
    first = group[0]
    try:
        height, width = folder.image(first.image).shape[:2]
    except ImageError:
        problems.add("images that cannot be read", first.image)
    else:
        if _other_shape((width, height), first):
            problems.add("images of another shape than width and height say", first.image)
    for pair in group:
        try:
            height, width = folder.saliency_map(pair).shape
        except DataError:
            problems.add("maps that are unreadable or empty", pair.key)
        else:
            if _other_shape((width, height), pair):
                problems.add("maps of another shape than width and height say", pair.key)


def _other_shape(size: tuple[int, int], pair: GazePair) -> bool:
    """Whether a shrunk image has other proportions than its photo, beyond rounding to whole pixels."""
    width, height = size
    # Each side is off by less than a pixel.
    return abs(width * pair.height - height * pair.width) > pair.width + pair.height


def _part(folder: GazeFolder, pairs: Sequence[GazePair]) -> Part:
    conditions: dict[str, int] = {}
    for pair in pairs:
        conditions[pair.condition] = conditions.get(pair.condition, 0) + 1
    counts = np.array([len(folder.fixations(pair)) for pair in pairs], int)
    return Part(
        photos=len(photos(pairs)),
        pairs=len(pairs),
        conditions=dict(sorted(conditions.items())),
        fixations=int(counts.sum()),
        pairs_with_fixations=int((counts > 0).sum()),
        pairs_with_maps=sum(folder.has_map(pair) for pair in pairs),
    )
