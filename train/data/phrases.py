"""Texts made by rule: phrases to distil on, captions, and which of COCO's classes a text names.

Captions alone teach whole sentences and names alone single things; people ask for what lies
between: "a red kite", "two dogs", "a man and a dog", "the cup on the left".
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from salgan_edge.train.data.text_vectors import bare_name

from salgan_edge.gaze.detector import COCO_CLASSES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

__all__ = [
    "ATTRIBUTES",
    "attributes_of",
    "compounds",
    "described",
    "made_captions",
    "named_classes",
    "recombined",
    "spans",
    "words_for",
]

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


_OTHER_WORDS = {
    "person": (
        "man", "men", "woman", "women", "people", "boy", "girl", "child", "children", "kid", "baby", "guy", "lady",
        "player", "skier", "surfer", "skateboarder", "snowboarder", "rider", "cyclist", "pedestrian", "crowd",
    ),
    "bicycle": ("bike",), "motorcycle": ("motorbike",), "airplane": ("plane", "aeroplane"), "couch": ("sofa",),
    "tv": ("television", "screen", "monitor"), "cell phone": ("phone", "mobile phone", "smartphone"),
    "potted plant": ("plant",), "dining table": ("table",), "donut": ("doughnut",), "hot dog": ("hotdog",),
    "refrigerator": ("fridge",), "hair drier": ("hair dryer",), "sports ball": ("ball",), "handbag": ("purse", "bag"),
    "cow": ("cattle", "calf"), "sheep": ("lamb",), "dog": ("puppy",), "cat": ("kitten",), "cup": ("mug",),
    "wine glass": ("glass of wine",), "remote": ("remote control",), "truck": ("lorry",), "laptop": ("computer",),
    "book": ("notebook",), "tie": ("necktie",), "frisbee": ("flying disc",),
}  # fmt: skip
_IRREGULAR = {"knife": "knives", "scissors": "scissors", "skis": "skis", "sheep": "sheep", "calf": "calves"}
_UNCHANGED = ("men", "women", "people", "children", "cattle")

_SUBJECTS = (
    "A man", "A woman", "The boy", "A little girl", "Two people", "A group of people", "Several men", "A child",
    "The old man", "A person",
)  # fmt: skip
_RELATIONS = (
    "standing next to", "sitting on", "holding", "looking at", "riding", "walking past", "playing with",
    "in front of", "behind", "carrying", "using", "with", "near", "beside",
)  # fmt: skip
_CAPTION_LOOKS = (
    "",
    "",
    "",
    "red ",
    "small ",
    "large ",
    "white ",
    "black ",
    "old ",
    "wooden ",
    "blue ",
    "yellow ",
)
_CAPTION_PLACES = (
    "", "", " on the street", " in a kitchen", " in a room", " on the grass", " by the water", " in a park",
    " on the beach", " on a table", " in the background", " on the left", " on the right",
)  # fmt: skip
_CAPTION_COUNTS = ("two", "some", "several", "many", "three")


def words_for(name: str) -> list[str]:
    """Words and their plurals by which people name a class, its own name first.

    >>> words_for("bus")
    ['bus', 'buses']
    """
    singular = [name, *_OTHER_WORDS.get(name, ())]
    plurals = [_plural_of(word) for word in singular if word not in _UNCHANGED]
    return list(dict.fromkeys([*singular, *plurals]))


def named_classes(texts: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Whether each text names each class in `COCO_CLASSES`, (n, 80), by whole words."""
    patterns = _patterns()
    rows = [[bool(pattern.search(text.lower())) for pattern in patterns] for text in texts]
    return np.array(rows, np.bool_).reshape(-1, len(COCO_CLASSES))


def made_captions(count: int, random: np.random.Generator) -> list[str]:
    """`count` captions that name one to three classes, all classes equally often."""
    captions = []
    for _ in range(count):
        first, second, third = (_phrase(COCO_CLASSES[n], random) for n in random.choice(80, 3, replace=False))
        subject, relation = random.choice(_SUBJECTS), random.choice(_RELATIONS)
        forms = (
            f"{subject} {relation} {first}",
            f"{first} {relation} {second}",
            f"there is {first} and {second}",
            f"{subject} {relation} {first} and {second}, with {third}",
            first,
        )
        text = forms[random.choice(len(forms), p=(0.3, 0.2, 0.2, 0.15, 0.15))] + random.choice(
            _CAPTION_PLACES
        )
        captions.append(text[0].upper() + text[1:])
    return captions


def _phrase(name: str, random: np.random.Generator) -> str:
    look, kind = random.choice(_CAPTION_LOOKS), random.random()
    if kind < 0.65:
        return f"{'a' if kind < 0.35 else 'the'} {look}{name}"
    return f"{random.choice(_CAPTION_COUNTS)} {look}{_plural_of(name)}"


def _plural_of(word: str) -> str:
    return _IRREGULAR.get(word, plural(word))


@cache
def _patterns() -> list[re.Pattern[str]]:
    # Longest first, so that "hot dog" is found whole; a dog beside it is then found by its own pattern.
    return [
        re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(words_for(name), key=len, reverse=True)))})\b")
        for name in COCO_CLASSES
    ]
