"""``python -m salgan_edge.train.fit_targets``, the old spelling of ``python -m tools fit-targets``."""

import sys

from salgan_edge.moved import run_tool

if __name__ == "__main__":
    run_tool("python -m salgan_edge.train.fit_targets", "fit-targets", sys.argv[1:])
