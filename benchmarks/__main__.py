"""``python -m salgan_edge.benchmarks NAME``, the old spelling of ``python -m tools NAME``."""

import sys

from salgan_edge.moved import run_tool

if __name__ == "__main__":
    name, *rest = [*sys.argv[1:], ""]
    is_name = bool(name) and not name.startswith("-")
    run_tool(
        f"python -m salgan_edge.benchmarks{f' {name}' if is_name else ''}",
        name if is_name else None,
        rest[:-1] if is_name else [],
    )
