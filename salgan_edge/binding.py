"""Runs of a session through buffers on the device that stay where they are."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

__all__ = ["BoundSession"]

_KEPT = 8
_NO_GRAPH = "-1"  # onnxruntime's number for a run that captures and replays none


class _Buffers(NamedTuple):
    """What one set of shapes is bound to."""

    binding: Any
    inputs: dict[str, Any]
    output: Any
    options: Any


class BoundSession:
    """Runs a session with fixed input and output buffers for each set of input shapes.

    A run then allocates nothing on the device and copies each input and the output once. Buffers of
    the last eight sets of shapes are kept. The first eight are captured, if any: onnxruntime keeps each
    graph with its memory as long as the session.

    Args:
        runtime: the onnxruntime module.
        session: an ``InferenceSession``.
        place: onnxruntime's name of the memory: ``cuda``, or ``cpu``.
        number: which of the devices.
        capture: the session was made with ``enable_cuda_graph``: each set of shapes gets a graph of its own.
    """

    def __init__(
        self, runtime: Any, session: Any, place: str, number: int = 0, *, capture: bool = False
    ) -> None:
        self._runtime = runtime
        self._session = session
        self._place = (place, number)
        self._capture = capture
        self._buffers: OrderedDict[tuple[Any, ...], _Buffers] = OrderedDict()
        self._graphs = 0

    def run(self, output: str, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Value of `output` for the inputs; the array is the caller's."""
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        key = (output, *((name, array.shape, array.dtype.str) for name, array in arrays.items()))
        if key not in self._buffers:
            self._buffers[key] = self._bind(output, arrays)
            while len(self._buffers) > _KEPT:
                self._buffers.popitem(last=False)
        self._buffers.move_to_end(key)
        buffers = self._buffers[key]
        for name, array in arrays.items():
            buffers.inputs[name].update_inplace(array)
        self._session.run_with_iobinding(buffers.binding, buffers.options)
        # A copy: on the CPU, numpy() is the buffer itself, which the next run overwrites.
        return np.array(buffers.output.numpy())

    def _bind(self, output: str, arrays: Mapping[str, npt.NDArray[Any]]) -> _Buffers:
        value = self._runtime.OrtValue
        # Copies: on the CPU, the buffer is the array itself, and the caller's must not be overwritten.
        inputs = {
            name: value.ortvalue_from_numpy(array.copy(), *self._place) for name, array in arrays.items()
        }
        # The first run tells the output's shape.
        probe = self._session.io_binding()
        for name, buffer in inputs.items():
            probe.bind_ortvalue_input(name, buffer)
        probe.bind_output(output, *self._place)
        self._session.run_with_iobinding(probe, self._options(_NO_GRAPH))
        found = probe.get_outputs()[0]
        result = value.ortvalue_from_shape_and_type(found.shape(), np.float32, *self._place)
        binding = self._session.io_binding()
        for name, buffer in inputs.items():
            binding.bind_ortvalue_input(name, buffer)
        binding.bind_ortvalue_output(output, result)
        self._graphs += 1
        graph = str(self._graphs) if self._graphs <= _KEPT else _NO_GRAPH
        return _Buffers(binding, inputs, result, self._options(graph))

    def _options(self, graph: str) -> Any:
        """Run options."""
        options = self._runtime.RunOptions()
        if self._capture:
            options.add_run_config_entry("gpu_graph_id", graph)
        return options
