"""Names of the files that results go to."""

from __future__ import annotations

import re

__all__ = ["slug"]


def slug(text: str | None, length: int = 40) -> str:
    """A prompt as a part of a file name: letters and digits of any script, joined by dashes."""
    if text is None:
        return "free-viewing"
    words = re.findall(r"\w+", text.lower())
    joined = "-".join(words)[:length].strip("-")
    return joined or "prompt"
