"""Many faults told in one line: each kind once, with its number and the first few names."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Problems"]

_NAMED = 3
"""So many items of a kind are named; the others are counted."""


@dataclass
class Problems:
    """Faults by kind, in the order in which kinds were first met."""

    skipped: dict[str, list[str]] = field(default_factory=dict)
    """What was left out or forbids the use, by kind."""
    noted: dict[str, list[str]] = field(default_factory=dict)
    """What was used all the same, by kind."""

    def add(self, kind: str, item: str) -> None:
        """An item that cannot be used; the same item counts once for each kind."""
        _append(self.skipped, kind, item)

    def note(self, kind: str, item: str) -> None:
        """An item that is used, but not as it is."""
        _append(self.noted, kind, item)

    def lines(self) -> list[str]:
        """Faults as ``kind (number): first, second, third and 9 more``."""
        return [_line(kind, items) for kind, items in self.skipped.items()]

    def notes(self) -> list[str]:
        """Notes in the same form."""
        return [_line(kind, items) for kind, items in self.noted.items()]


def _append(kinds: dict[str, list[str]], kind: str, item: str) -> None:
    items = kinds.setdefault(kind, [])
    # Faults of one item follow each other, so the last one tells whether it is known.
    if not items or items[-1] != item:
        items.append(item)


def _line(kind: str, items: list[str]) -> str:
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return f"{kind} ({len(items)}): {', '.join(items[:_NAMED])}{more}"
