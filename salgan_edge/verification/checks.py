"""What a check of a bundle says, and how graphs that may be wrong are run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from salgan_edge.errors import BundleFormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from salgan_edge.session import GraphSession

__all__ = ["Check", "Status", "first_line", "value"]

Status = Literal["ok", "fail", "absent", "skipped"]
"""``absent``: the bundle has nothing to check. ``skipped``: an earlier failure leaves nothing to check."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    detail: str
    """What was found, in a line."""
    figures: dict[str, Any] = field(default_factory=dict)
    """The same for programs."""


def value(
    session: GraphSession, output: str, inputs: Mapping[str, npt.NDArray[Any]]
) -> npt.NDArray[np.float32]:
    """Run a graph that may have other inputs than it should.

    Raises:
        BundleFormatError: it cannot be run.
    """
    try:
        return session.run(output, inputs)
    except Exception as error:  # onnxruntime raises a family of its own
        raise BundleFormatError(f"cannot be run: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What an error says first; onnxruntime's go on for long."""
    return (str(error).splitlines() or [type(error).__name__])[0]
