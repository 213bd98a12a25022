"""What a peer is: something that is timed in the same run as the generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from salgan_edge.errors import SalganEdgeError

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["Peer", "PeerUnavailableError"]


class PeerUnavailableError(SalganEdgeError):
    """A peer cannot be timed here; the message says why and what to do."""


@dataclass(frozen=True)
class Peer:
    """Something to time beside the generator."""

    name: str
    run: Callable[[], Any]
    """One run on inputs that stay the same; gives the array that was computed."""
    note: str
    """One line about what runs: implementation, input, weights."""
    macs: float | None
    """Multiply-accumulate operations of a run; None where they are not known."""
