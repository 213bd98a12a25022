"""``python -m salgan_edge.train.ablation``, the old spelling of ``python -m tools ablation``."""

import sys

from salgan_edge.moved import run_tool

if __name__ == "__main__":
    run_tool("python -m salgan_edge.train.ablation", "ablation", sys.argv[1:])
