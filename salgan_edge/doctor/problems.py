"""What is wrong, and the commands that mend it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from salgan_edge.doctor.facts import Facts

__all__ = ["Problem", "Severity", "apt_install", "pip_install", "pip_uninstall", "quoted"]

Severity = Literal["error", "warning", "note"]
"""``error``: the main job would not run. ``warning``: something asked for or present does not work."""


@dataclass(frozen=True)
class Problem:
    """One thing to mend, or to know."""

    severity: Severity
    part: str
    """Which row of the report it belongs to: ``package numpy``, ``device cuda``, ``camera 0``..."""
    what: str
    """What was found and what it means, in a line."""
    commands: tuple[str, ...] = ()
    """What to type, in this order; words in capitals stand for the user's own."""


def quoted(facts: Facts, word: str) -> str:
    """A word as this system's shell takes it whole: Windows knows no single quotes."""
    if re.fullmatch(r"[\w.~/:\\-]+" if facts.system.kind == "Windows" else r"[\w.~/:-]+", word):
        return word
    return f'"{word}"' if facts.system.kind == "Windows" else f"'{word}'"


def pip_install(facts: Facts, *words: str) -> str:
    """The command that installs into this Python."""
    python = facts.python
    before = f"{python.pip.removesuffix(' -m pip')} -m ensurepip && " if python.pip_missing else ""
    return f"{before}{python.pip} install {' '.join(quoted(facts, word) for word in words)}"


def pip_uninstall(facts: Facts, packages: Iterable[str]) -> str:
    """The command that uninstalls from this Python without a question."""
    pip = facts.python.pip
    # uv never asks, and does not know the option.
    return f"{pip} uninstall {'' if pip.startswith('uv') else '-y '}{' '.join(packages)}"


def apt_install(facts: Facts, *packages: str) -> tuple[str, ...]:
    """The command that installs Debian's packages; nothing on other systems, whose names differ."""
    if facts.system.manager != "apt-get" or not packages:
        return ()
    if facts.system.container:
        return (f"apt-get update && apt-get install -y {' '.join(packages)}",)
    return (f"sudo apt-get install -y {' '.join(packages)}",)
