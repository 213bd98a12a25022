"""Questions about ONNX graphs that need neither PyTorch nor ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["needed_tensors"]


def needed_tensors(graph: onnx.GraphProto, outputs: tuple[str, ...]) -> set[str]:
    """Names of all tensors that nodes compute on the way to `outputs`."""
    producers = {name: node for node in graph.node for name in node.output}
    needed: set[str] = set()
    pending = list(outputs)
    while pending:
        name = pending.pop()
        if name in producers and name not in needed:
            needed.add(name)
            pending.extend(producers[name].input)
    return needed
