"""Phrases to distil on, made from captions and class names: parts, recombinations, compounds.

Captions alone teach whole sentences and names alone single things; people ask for what lies
between: "a red kite", "two dogs", "a man and a dog", "the cup on the left".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from salgan_edge.train.data.text_vectors import bare_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

__all__ = ["ATTRIBUTES", "attributes_of", "compounds", "described", "recombined", "spans"]

ATTRIBUTES: tuple[tuple[str, ...], ...] = (
    ("left",), ("right",), ("top", "upper", "above"), ("bottom", "lower", "below"),
    ("middle", "center", "centre"), ("front", "foreground"), ("back", "background", "behind"),
    ("two", "pair", "both", "couple"), ("three",), ("many", "several", "group", "crowd", "some", "lot"),
    ("small", "little", "tiny"), ("large", "big", "huge"),
    ("red",), ("blue",), ("green",), ("yellow",), ("orange",), ("white",), ("black",), ("brown",),
    ("grey", "gray", "silver"), ("pink", "purple"),
)  # fmt: skip
"""Words that say where, how many or which one; each group is one attribute."""

_ATTRIBUTE_OF = {word: number for number, words in enumerate(ATTRIBUTES) for word in words}
_PLACES = (
    "on the left", "on the right", "on the left side", "on the right side", "at the top", "at the bottom",
    "in the middle", "in the center", "in front", "in the foreground", "in the background", "behind",
)  # fmt: skip
_COUNTS = ("two", "three", "many", "several", "some", "a group of", "a pair of")
_LOOKS = (
    "red", "blue", "green", "yellow", "orange", "white", "black", "brown", "grey", "pink", "small", "little",
    "large", "big", "old", "wooden", "metal", "broken", "shiny", "young", "open", "wet",
)  # fmt: skip


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9'-]+", text.lower())


def attributes_of(text: str) -> list[int]:
    """Which of `ATTRIBUTES` a text states, each once, in order.

    >>> attributes_of("two red kites on the left")
    [0, 7, 12]
    """
    return sorted({_ATTRIBUTE_OF[word] for word in _words(text) if word in _ATTRIBUTE_OF})


def spans(captions: Sequence[str], count: int, random: np.random.Generator) -> list[str]:
    """`count` draws of one to six neighbouring words of a caption; what is drawn again is left out."""
    found: dict[str, None] = {}
    for caption in random.choice(list(captions), count):
        words = _words(str(caption))
        length = int(random.integers(1, 7))
        first = int(random.integers(0, max(1, len(words) - length + 1)))
        if words:
            found[" ".join(words[first : first + length])] = None
    return list(found)


def recombined(names: Sequence[str], count: int, random: np.random.Generator) -> list[str]:
    """Names of two words with the first word of another: "a baseball pot"; new ones only."""
    pairs = [bare_name(name).split() for name in names]
    first = [pair[0] for pair in pairs if len(pair) == 2]
    last = [pair[-1] for pair in pairs]
    if not first:
        return []
    made = (
        f"a {a} {b}" for a, b in zip(random.choice(first, count), random.choice(last, count), strict=True)
    )
    return [text for text in dict.fromkeys(made) if text not in set(names)]


def described(things: Iterable[str], random: np.random.Generator) -> list[str]:
    """Each thing with a look, a number, a place, or several of these: "two red kites on the left"."""
    made: dict[str, None] = {}
    for thing in things:
        look = f"{random.choice(_LOOKS)} " if random.random() < 0.5 else ""
        if random.random() < 0.35:
            phrase = f"{random.choice(_COUNTS)} {look}{plural(str(thing))}"
        else:
            phrase = f"{random.choice(['a', 'the', 'the', 'one'])} {look}{thing}"
        if not look or random.random() < 0.4:
            phrase += f" {random.choice(_PLACES)}"
        made[phrase] = None
    return list(made)


def compounds(
    names: Sequence[str], count: int, random: np.random.Generator
) -> tuple[list[str], list[tuple[int, int]]]:
    """Texts that join two names ("a man and a dog"), with the numbers of the two."""
    texts: dict[str, tuple[int, int]] = {}
    for a, b in random.integers(0, len(names), (count, 2)):
        joint = random.choice(["and", "and", "next to", "with"])
        article = random.choice(["a", "the"])
        texts[f"{article} {bare_name(names[a])} {joint} {article} {bare_name(names[b])}"] = (int(a), int(b))
    return list(texts), list(texts.values())


def plural(thing: str) -> str:
    """The regular plural of an English noun; what ends in a single s is one already.

    >>> plural("box"), plural("baby"), plural("dog"), plural("tights")
    ('boxes', 'babies', 'dogs', 'tights')
    """
    if re.search(r"[^s]s$", thing):
        return thing
    if re.search(r"(ss|x|z|ch|sh)$", thing):
        return f"{thing}es"
    if re.search(r"[^aeiou]y$", thing):
        return f"{thing[:-1]}ies"
    return f"{thing}s"
