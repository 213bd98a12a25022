"""Which of COCO's classes a text names, by its words; and made-up captions that name some."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from salgan_edge.train.data.phrases import plural

from salgan_edge.gaze.detector import COCO_CLASSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["made_captions", "named_classes", "words_for"]

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
_LOOKS = ("", "", "", "red ", "small ", "large ", "white ", "black ", "old ", "wooden ", "blue ", "yellow ")
_PLACES = (
    "", "", " on the street", " in a kitchen", " in a room", " on the grass", " by the water", " in a park",
    " on the beach", " on a table", " in the background", " on the left", " on the right",
)  # fmt: skip
_COUNTS = ("two", "some", "several", "many", "three")


def words_for(name: str) -> list[str]:
    """Words and their plurals by which people name a class, its own name first.

    >>> words_for("bus")
    ['bus', 'buses']
    """
    singular = [name, *_OTHER_WORDS.get(name, ())]
    plurals = [_plural(word) for word in singular if word not in _UNCHANGED]
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
        text = forms[random.choice(len(forms), p=(0.3, 0.2, 0.2, 0.15, 0.15))] + random.choice(_PLACES)
        captions.append(text[0].upper() + text[1:])
    return captions


def _phrase(name: str, random: np.random.Generator) -> str:
    look, kind = random.choice(_LOOKS), random.random()
    if kind < 0.65:
        return f"{'a' if kind < 0.35 else 'the'} {look}{name}"
    return f"{random.choice(_COUNTS)} {look}{_plural(name)}"


def _plural(word: str) -> str:
    return _IRREGULAR.get(word, plural(word))


@cache
def _patterns() -> list[re.Pattern[str]]:
    # Longest first, so that "hot dog" is found whole; a dog beside it is then found by its own pattern.
    return [
        re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(words_for(name), key=len, reverse=True)))})\b")
        for name in COCO_CLASSES
    ]
