"""OpenCV's saliency models, which know no text.

They are in opencv-contrib only, whose wheel overwrites the files of opencv-python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from salgan_edge.benchmarks.peers.peer import Peer, PeerUnavailableError

from salgan_edge.timing import random_photo

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["fine_grained_peer", "spectral_residual_peer"]

_REPAIR = (
    "pip uninstall -y opencv-python && pip install opencv-contrib-python (the two overwrite each other's files, so "
    "never both; pip check will name the one that was taken out)"
)


def spectral_residual_peer(size: int, threads: int) -> Peer:
    """Hou and Zhang 2007 on a photo (size, size, 3): OpenCV's, or the baseline of `salgan-edge evaluate`."""
    import cv2  # noqa: PLC0415 - this package is imported before it is known what is asked for

    if hasattr(cv2, "saliency"):
        model = cv2.saliency.StaticSaliencySpectralResidual_create()
        return _peer("spectral-residual", model, size, threads)
    from salgan_edge.evaluate.models import SpectralResidual  # noqa: PLC0415 - imports OpenCV

    photo, own = random_photo(size), SpectralResidual()

    def run() -> npt.NDArray[np.float32]:
        _set_threads(threads)
        return own.residual(photo)

    run()
    note = (
        f"this package's own in numpy, {size}x{size}; OpenCV's takes opencv-contrib-python for opencv-python"
    )
    return Peer("spectral-residual", run, note, None)


def fine_grained_peer(size: int, threads: int) -> Peer:
    """Montabone and Soto 2010 on a photo (size, size, 3).

    Raises:
        PeerUnavailableError: OpenCV was built without its saliency module.
    """
    import cv2  # noqa: PLC0415 - see above

    if not hasattr(cv2, "saliency"):
        raise PeerUnavailableError(f"the installed OpenCV has no saliency module: {_REPAIR}")
    return _peer("fine-grained", cv2.saliency.StaticSaliencyFineGrained_create(), size, threads)


def _peer(name: str, model: Any, size: int, threads: int) -> Peer:
    import cv2  # noqa: PLC0415 - see above

    photo = random_photo(size)[..., ::-1].copy()  # OpenCV's order of colours

    def run() -> npt.NDArray[np.float32]:
        _set_threads(threads)
        done, saliency = model.computeSaliency(photo)
        assert done, f"OpenCV's {name} gave no map"
        result: npt.NDArray[np.float32] = saliency
        return result

    run()
    return Peer(name, run, f"OpenCV {cv2.__version__}, {size}x{size}", None)


def _set_threads(threads: int) -> None:
    """Set OpenCV's own threads, which are one setting for the whole process."""
    import cv2  # noqa: PLC0415 - see above

    if cv2.getNumThreads() != threads:
        cv2.setNumThreads(threads)
