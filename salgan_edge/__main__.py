"""``python -m salgan_edge`` is ``salgan-edge``."""

from salgan_edge.cli import main

if __name__ == "__main__":
    main()
