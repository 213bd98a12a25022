"""Targets made of boxes: where people look who are told to look for what lies in them.

They teach the generator to obey: the target is a Gaussian in each box of the named thing, plus a
share of the photo's free-viewing map, since people told to look for a dog still look elsewhere.
How wide and how large a share is measured on people: `tools/fit_targets.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from salgan_edge.train.data.text_vectors import name_variants

from salgan_edge.gaze.detector import class_prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from salgan_edge.gaze.detector import Detection

__all__ = ["TARGETS", "TargetShape", "box_map", "object_map", "prompts_for"]

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
