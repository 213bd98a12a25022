"""Old spellings of what is in ``tools/`` of the repository now; they work for one release, from a checkout.

``python -m salgan_edge.benchmarks NAME`` and ``python -m salgan_edge.train.NAME`` come here.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import NoReturn

import typer

__all__ = ["run_tool"]


def run_tool(old: str, name: str | None, arguments: list[str]) -> NoReturn:
    """Run ``python -m tools`` of the checkout that this package lies in, and say that it is called so now.

    Args:
        old: what was called, such as ``python -m salgan_edge.train.annotate``.
        name: of the tool; None for the list of all.
        arguments: of the tool.

    Raises:
        SystemExit: always: with the tool's exit code, or 1 where there is no checkout.
    """
    words = [name] if name else []
    new = " ".join(["python -m tools", *words])
    root = Path(__file__).parents[1]
    # An installed package has another project's folder of that name beside it at most.
    if not ((root / "tools" / "__main__.py").is_file() and (root / "pyproject.toml").is_file()):
        typer.echo(f"error: {old} is now {new} in a clone of the repository: it is not installed", err=True)
        sys.exit(1)
    typer.echo(
        f"note: {old} is now {new}, run in the clone; the old name goes with the next release", err=True
    )
    sys.path.insert(0, str(root))
    sys.argv = [str(root / "tools" / "__main__.py"), *words, *arguments]
    runpy.run_module("tools", run_name="__main__")
    sys.exit(0)
