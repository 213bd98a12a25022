"""``python -m salgan_edge.train.annotate``, the old spelling of ``python -m tools annotate``."""

import sys

from salgan_edge.moved import run_tool

if __name__ == "__main__":
    run_tool("python -m salgan_edge.train.annotate", "annotate", sys.argv[1:])
