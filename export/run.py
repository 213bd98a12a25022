"""Runs graphs that are not written yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from salgan_edge import contract
from salgan_edge.cpus import allowed_cpus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    import onnx

__all__ = ["GraphRun", "embed"]


class GraphRun:
    """A graph in memory on the CPU, all of whose tensors may be asked for."""

    def __init__(self, model: onnx.ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = allowed_cpus()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(
        self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]
    ) -> list[npt.NDArray[Any]]:
        """Values of some outputs."""
        values: list[npt.NDArray[Any]] = self._session.run(list(outputs), dict(inputs))
        return values

    def maps(
        self, photo: npt.NDArray[np.uint8], vectors: npt.NDArray[np.float32], **more: npt.NDArray[Any]
    ) -> npt.NDArray[np.float32]:
        """Saliency (N, h, w) of one photo (H, W, 3) for text vectors (N, dimension)."""
        inputs: dict[str, npt.NDArray[Any]] = {
            contract.IMAGE: photo[None],
            contract.TEXT_EMBEDDING: vectors[None],
            **more,
        }
        maps: npt.NDArray[np.float32] = self([contract.SALIENCY], inputs)[0][0]
        return maps


def embed(encoder: GraphRun, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Text vectors (N, dimension) of token ids (N, 77), one text at a time as the runtime may ask for them."""
    rows = [encoder([contract.TEXT_EMBEDDING], {contract.INPUT_IDS: row[None]})[0] for row in ids]
    return np.concatenate(rows)
