"""Optional packages of a command, missed with one line that says how to get them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import typer

from salgan_edge.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["needs", "usage_errors"]


@contextlib.contextmanager
def needs(extra: str, *packages: str) -> Iterator[None]:
    """Turn a failed import of one of `packages` into a hint at the extra that brings it.

    Raises:
        MissingDependencyError: one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in packages:
            raise
        raise MissingDependencyError(
            f"{error.name} is not installed: pip install 'salgan-edge[{extra}]' (with cpu or gpu beside it)"
        ) from error


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """A setting that is refused is wrong usage: exit code 2."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
