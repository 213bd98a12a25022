"""Texts about absent things: which texts of other photos to ask a photo.

Labels say what is in a photo, never what is not: a text counts as absent where it shares no word with any label
of the photo and names nothing that photos often show without a label.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from salgan_edge.gaze.phrases import Phrase

__all__ = ["ABSENT", "absent_texts", "content_words", "identity", "usual_words"]

ABSENT = 3
"""Texts of other photos that each photo is asked."""

_USUAL_SHARE, _USUAL_PHOTOS = 0.02, 4
_COCO_NUMBER = re.compile(r"\d{12}")
_WORD = re.compile(r"[^\W\d_]+")
_FUNCTION_WORDS = (
    "a an the of in on at with without and or to from by for near next behind under over above below between beside "
    "left right top bottom front back side middle center centre upper lower inside outside into onto through across "
    "around along against that which who is are its his her their this one two three"
)
_PEOPLE = (
    "person people man men woman women boy girl child children kid baby lady guy player face head hand arm leg foot "
    "feet hair body crowd"
)
_IGNORED = frozenset(_FUNCTION_WORDS.split())


def content_words(text: str) -> frozenset[str]:
    """Words that carry meaning, in lower case and roughly in the singular.

    >>> sorted(content_words("the red cups on the left"))
    ['cup', 'red']
    """
    return frozenset(_singular(word) for word in _WORD.findall(text.lower()) if word not in _IGNORED)


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("xes", "ches", "shes", "sses")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def usual_words(chosen: Mapping[str, Sequence[Phrase]], common: Collection[str]) -> frozenset[str]:
    """Words of things that a photo may well show without a label.

    They are those of `common`, of people and their parts, and those that name something in more than
    2 % of the photos (and in more than four).
    """
    photos = Counter(word for texts in chosen.values() for word in _words(texts))
    often = max(_USUAL_PHOTOS, _USUAL_SHARE * len(chosen))
    named = content_words(" ".join([*common, _PEOPLE]))
    return named | {word for word, count in photos.items() if count > often}


def absent_texts(
    chosen: Mapping[str, Sequence[Phrase]], usual: Collection[str], count: int = ABSENT
) -> dict[str, list[str]]:
    """For each photo, texts of others that share no word with any of its own texts and have none of `usual`.

    The texts, in the order of their SHA-256, are walked through from a place that the photo's name
    gives, so a draw depends on nothing but the table and its split.

    Returns:
        By photo, `count` texts, or as many as there are.
    """
    usual = frozenset(usual)
    words = {text: content_words(text) for texts in chosen.values() for p in texts for text in p.texts[:1]}
    pool = sorted((text for text, held in words.items() if held and not held & usual), key=_hash)
    same: dict[str, set[str]] = defaultdict(set)
    for photo, texts in chosen.items():
        same[identity(photo)] |= _words(texts)
    drawn: dict[str, list[str]] = {}
    for photo in chosen:
        start = _hash(photo) % max(1, len(pool))
        own = same[identity(photo)]
        free = (text for text in pool[start:] + pool[:start] if not words[text] & own)
        drawn[photo] = [text for text, _ in zip(free, range(count), strict=False)]
    return drawn


def _words(texts: Iterable[Phrase]) -> set[str]:
    return {word for phrase in texts for text in phrase.texts for word in content_words(text)}


def identity(photo: str) -> str:
    """What is the same for a photo of COCO in several sets."""
    name = photo.split("/", 1)[1]
    return name if _COCO_NUMBER.fullmatch(name) else photo


def _hash(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)
