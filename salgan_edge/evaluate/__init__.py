"""Accuracy of bundles on human gaze, and whether their maps go where texts point: `salgan_edge.evaluate.run`.

This file imports nothing heavy, since options of the command line are made of it.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Baseline"]


class Baseline(StrEnum):
    """Predictions that need no training, or none but a mean; `salgan_edge.evaluate.models` makes them."""

    mean_map = "mean-map"
    """The mean of the training split's human maps: what a model reaches that knows the data set and looks at no photo."""
    centre = "centre"
    """A Gaussian in the middle."""
    spectral_residual = "spectral-residual"
    """Hou and Zhang 2007: a bottom-up model without training."""
    none = "none"
    """No baseline."""
