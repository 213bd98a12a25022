"""Splits by photo: all viewing conditions of one photo are in one split."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

__all__ = ["SPLITS", "SPLIT_ID", "split_names", "split_photos", "third"]

SPLITS = ("train", "validation", "test")

SPLIT_ID = "sha256-70/15/15-v1"
"""Names the rule below; written into checkpoints and bundles."""


def split_names(names: Iterable[str]) -> dict[str, str]:
    """``train``, ``validation`` or ``test`` for each photo name, 70/15/15.

    The photos are ordered by the SHA-256 of their name, so the split depends on the names alone:
    not on their order, the machine or a random generator.
    """
    ordered = sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    validation, test = round(0.15 * len(ordered)), round(0.15 * len(ordered))
    train = len(ordered) - validation - test
    return {
        name: "train" if n < train else "validation" if n < train + validation else "test"
        for n, name in enumerate(ordered)
    }


def split_photos(
    conditions: Mapping[str, Collection[str]], given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The split of each photo of a data set.

    Photos with a text for the whole scene (condition ``whole``) and all others are split apart by
    `split_names`, so that every condition of SJTU-TIS has its share in each split.

    Args:
        conditions: viewing conditions by photo.
        given: splits that the data set prescribes, by photo; they win, and the rule divides the rest.
    """
    given = given or {}
    free = [name for name in conditions if name not in given]
    whole = [name for name in free if "whole" in conditions[name]]
    others = [name for name in free if "whole" not in conditions[name]]
    prescribed = {name: given[name] for name in conditions if name in given}
    return {**split_names(whole), **split_names(others), **prescribed}


def third(name: str) -> str:
    """Which third of the photos a name belongs to, by a hash of its own: ``1/3``, ``2/3`` or ``3/3``."""
    number = int(hashlib.sha256(f"third {name}".encode()).hexdigest(), 16) % 3
    return f"{number + 1}/3"
