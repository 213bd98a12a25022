"""Writes spectral_residual.json: OpenCV's own spectral residual of a made-up photo.

``cv2.saliency`` is in opencv-contrib-python alone, which overwrites opencv-python, so it has an
environment of its own::

    python3 -m venv contrib && contrib/bin/pip install opencv-contrib-python
    contrib/bin/python tests/golden/make_spectral_residual.py

The photo has 64x64 pixels, the size at which the method works, so that no resizing of the result
comes in between; every fourth pixel of every fourth row is written.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def photo() -> np.ndarray:
    """RGB uint8 (64, 64, 3): a gradient with noise, a disc and a bar."""
    random = np.random.Generator(np.random.PCG64(0))
    rows, columns = np.mgrid[:64, :64]
    pixels = np.stack([rows * 2, columns * 2, rows + columns], axis=-1) + random.integers(0, 40, (64, 64, 3))
    pixels[(rows - 20) ** 2 + (columns - 44) ** 2 < 36] = (250, 220, 30)
    pixels[48:52, 8:30] = (10, 20, 120)
    return pixels.clip(0, 255).astype(np.uint8)


def main() -> None:
    """Write the file beside this one."""
    import cv2  # here, because the tests have an OpenCV that lacks the module

    method = cv2.saliency.StaticSaliencySpectralResidual_create()
    done, values = method.computeSaliency(cv2.cvtColor(photo(), cv2.COLOR_RGB2BGR))
    assert done
    table = {
        "opencv": cv2.__version__,
        "saliency": [[round(float(value), 6) for value in row] for row in values[::4, ::4]],
    }
    Path(__file__).with_name("spectral_residual.json").write_text(json.dumps(table) + "\n")


if __name__ == "__main__":
    main()
