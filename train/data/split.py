"""Splits by photo: all viewing conditions of one photo are in one split."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SPLIT_ID", "split_names"]

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
