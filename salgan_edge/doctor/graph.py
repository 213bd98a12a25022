"""The tiny graph of the probes, written out: the runtime has no `onnx` to make it with."""

from __future__ import annotations

__all__ = ["INPUT", "OUTPUT", "TINY_GRAPH", "X", "Z"]

INPUT, OUTPUT = "x", "z"

X = ((1, -2, 3), (0, 4, -1), (2, -9, -3))
"""What is put in, float32 (1, 1, 3, 3)."""

Z = ((6, 10, 8), (0, 0, 0), (0, 0, 0))
"""What must come out. Small whole numbers are exact in every precision, TF32 and fp16 too."""

TINY_GRAPH = bytes.fromhex(
    "08083aca010a220a01780a01771201632204436f6e762a110a04706164734001400140014001a001070a100a"
    "01630a0374776f12016d22034d756c0a0c0a016d12017a220452656c75120474696e792a3308010801080308"
    "0310014201774a240000803f0000803f0000803f0000803f0000803f0000803f0000803f0000803f0000803f"
    "2a0f08011001420374776f4a04000000405a1b0a017812160a14080112100a0208010a0208010a0208030a02"
    "0803621b0a017a12160a14080112100a0208010a0208010a0208030a02080342040a001012"
)
"""z = Relu(Conv(x, ones of 3x3) * 2), opset 18: a convolution, which needs cuDNN on CUDA, and two other operators."""
