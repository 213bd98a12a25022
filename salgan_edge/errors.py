"""The one family of errors.

Each class also inherits the fitting builtin, so that code that knows nothing of this package
can catch it. Messages are one line: what was found, what was expected, what to do.

::

    SalganEdgeError
    ├── InputError(ValueError)           what the user gave cannot be used
    │   ├── ImageError                   not an image, damaged, empty, too large, missing
    │   ├── PromptError                  not a usable text
    │   └── SourceError                  not a source of frames, or one that broke down
    ├── OutputError(OSError)             a result cannot be written
    ├── BundleError(ValueError)          a bundle cannot be used
    │   ├── BundleFormatError            not a bundle, another format or contract version
    │   └── BundleIntegrityError         a file is missing, truncated or changed
    ├── DeviceError(RuntimeError)        a device asked for is not usable
    ├── MissingDependencyError(ImportError)
    ├── CheckpointError(ValueError)      weights that do not fit the model
    ├── DataError(ValueError)            a data folder that cannot be trained on
    └── ExportError(RuntimeError)
        ├── ParityError                  PyTorch and ONNX Runtime disagree
        └── PrecisionError               a reduced precision loses too much accuracy
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "BundleFormatError",
    "BundleIntegrityError",
    "CheckpointError",
    "DataError",
    "DeviceError",
    "ExportError",
    "ImageError",
    "InputError",
    "MissingDependencyError",
    "OutputError",
    "ParityError",
    "PrecisionError",
    "PromptError",
    "SalganEdgeError",
    "SourceError",
]


class SalganEdgeError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(SalganEdgeError, ValueError):
    """What the user gave cannot be used."""


class ImageError(InputError):
    """An image is missing, empty, damaged, too large or no image at all."""


class PromptError(InputError):
    """A prompt is not a usable text."""


class SourceError(InputError):
    """A video, camera, stream or folder of frames cannot be opened or read."""


class OutputError(SalganEdgeError, OSError):
    """A result cannot be written."""


class BundleError(SalganEdgeError, ValueError):
    """A bundle cannot be used."""


class BundleFormatError(BundleError):
    """The folder is no bundle, or one of another format or contract version."""


class BundleIntegrityError(BundleError):
    """A file of the bundle is missing, truncated or changed."""


class DeviceError(SalganEdgeError, RuntimeError):
    """A device that was asked for by name is not usable."""


class MissingDependencyError(SalganEdgeError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class CheckpointError(SalganEdgeError, ValueError):
    """Weights are damaged or do not fit the model."""


class DataError(SalganEdgeError, ValueError):
    """A data folder cannot be trained or evaluated on."""


class ExportError(SalganEdgeError, RuntimeError):
    """A bundle could not be made; nothing was left behind."""


class ParityError(ExportError):
    """The exported graphs do not compute what the PyTorch model computes."""


class PrecisionError(ExportError):
    """A reduced precision loses more accuracy than its gate allows; the message names the figures and layers."""
