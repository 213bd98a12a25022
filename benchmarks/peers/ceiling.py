"""The machine's ceiling: a matrix product, in the same runtime and so with the same threads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from salgan_edge.benchmarks.peers.graphs import graph_peer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from salgan_edge.benchmarks.peers.peer import Peer

__all__ = ["SIDES", "matmul_graph", "matmul_peer"]

SIDES = (512, 1024, 2048)
"""Rows and columns of both matrices; small ones stay in the cache of one core, large ones feed many."""

_FLOAT, _IR_VERSION, _OPSET = 1, 8, 18
_TRIALS = 4


def matmul_peer(threads: int, sides: Sequence[int] = SIDES) -> Peer:
    """The product of two square float32 matrices, of that size of `sides` which does the most a second."""
    peers = [_product(side, threads) for side in sides]
    return max(peers, key=lambda peer: (peer.macs or 0.0) / _least_seconds(peer))


def _least_seconds(peer: Peer) -> float:
    times = []
    for _ in range(_TRIALS):
        before = time.perf_counter()
        peer.run()
        times.append(time.perf_counter() - before)
    return min(times)


def _product(side: int, threads: int) -> Peer:
    random = np.random.default_rng(0)
    inputs = {name: random.random((side, side), np.float32) for name in ("a", "b")}
    note = f"float32 matrix product {side}x{side} in onnxruntime, the fastest of several sizes"
    return graph_peer("matmul", matmul_graph(side), "y", inputs, threads, note, float(side) ** 3)


def matmul_graph(side: int) -> bytes:
    """An ONNX file: y = a @ b, all float32 (side, side). Written out, so that `onnx` is not needed."""
    # Field numbers are those of onnx.proto3.
    node = _text(1, "a") + _text(1, "b") + _text(2, "y") + _text(4, "MatMul")
    axis = _message(1, _number(1, side))
    tensor = _number(1, _FLOAT) + _message(2, axis + axis)
    value = {name: _text(1, name) + _message(2, _message(1, tensor)) for name in "aby"}
    graph = _message(1, node) + _text(2, "product")
    graph += _message(11, value["a"]) + _message(11, value["b"]) + _message(12, value["y"])
    return _number(1, _IR_VERSION) + _message(7, graph) + _message(8, _text(1, "") + _number(2, _OPSET))


def _varint(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())
