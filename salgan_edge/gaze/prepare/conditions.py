"""File names and words that stand for SJTU-TIS's viewing conditions."""

from __future__ import annotations

import re

from salgan_edge.gaze.folder import FREE_VIEWING

__all__ = ["BY_SUFFIX", "condition_named", "parse_name", "short_name"]

BY_SUFFIX = {"0": FREE_VIEWING, "1": "general", "2": "nonsalient", "3": "salient", "": "whole"}
"""Condition by the number after the photo's name: ``71_2`` is photo 71 told of what is not salient."""

_NAME = re.compile(r"(?P<photo>.+?)(?:_(?P<suffix>[0-3]))?", re.DOTALL)

# The published spreadsheet is in Chinese: "whole", "not salient", "salient".
_WORDS = {
    "整体": "general", "非显著": "nonsalient", "显著": "salient",
    "nonsal": "nonsalient", "sal": "salient", "free": FREE_VIEWING, "freeviewing": FREE_VIEWING,
    **{name: name for name in BY_SUFFIX.values()},
    **{suffix: name for suffix, name in BY_SUFFIX.items() if suffix},
}  # fmt: skip


def parse_name(name: str) -> tuple[str, str]:
    """Photo and condition of a file name without its format's suffix.

    >>> parse_name("000000000071_2")
    ('000000000071', 'nonsalient')
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return name, BY_SUFFIX[""]
    return match["photo"], BY_SUFFIX[match["suffix"] or ""]


def condition_named(word: str) -> str | None:
    """The condition that a cell such as ``Non-salient``, ``2`` or the published Chinese word names."""
    return _WORDS.get(re.sub(r"[\s_-]", "", word).lower())


def short_name(photo: str) -> str:
    """The photo's name as tables of texts have it: a number loses its leading zeros."""
    return photo.lstrip("0") or "0" if photo.isascii() and photo.isdigit() else photo
