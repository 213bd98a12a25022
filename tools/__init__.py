"""What only steers this repository, which is to be installed with ``pip install -e``; it is not in the wheel. ``python -m tools --help`` lists it."""
