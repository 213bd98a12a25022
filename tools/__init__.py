"""What only steers this repository; not installed. ``python -m tools --help`` lists it."""
