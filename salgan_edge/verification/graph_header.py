"""The operator sets that an ONNX file asks for, read without onnx or onnxruntime.

onnxruntime does not tell them, and onnx is no dependency of the runtime. An ONNX file is a protocol
buffer, whose fields say how long they are, so the graph itself is stepped over.
"""

from __future__ import annotations

__all__ = ["read_opset"]

# Of ModelProto and OperatorSetIdProto in onnx.proto.
_OPSET_IMPORT = 8
_DOMAIN = 1
_VERSION = 2

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_opset(data: bytes) -> dict[str, int]:
    """Version of each operator set by its domain; the standard one is ``ai.onnx``.

    Raises:
        ValueError: the bytes are no ONNX file.
    """
    found: dict[str, int] = {}
    for number, value in _fields(memoryview(data)):
        if number == _OPSET_IMPORT and isinstance(value, memoryview):
            entry = dict(_fields(value))
            domain, version = entry.get(_DOMAIN, memoryview(b"")), entry.get(_VERSION, 0)
            if not isinstance(domain, memoryview) or not isinstance(version, int):
                raise ValueError("an operator set is damaged")
            found[str(domain, "utf-8") or "ai.onnx"] = version
    if not found:
        raise ValueError("no operator set was found: this is no ONNX file")
    return found


def _fields(data: memoryview) -> list[tuple[int, int | memoryview]]:
    """Number and value of each field of a message."""
    fields: list[tuple[int, int | memoryview]] = []
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind = key & 7
        value: int | memoryview
        if kind == _VARINT:
            value, place = _varint(data, place)
        else:
            if kind == _BYTES:
                length, place = _varint(data, place)
            elif kind in (_FIXED32, _FIXED64):
                length = 4 if kind == _FIXED32 else 8
            else:
                raise ValueError(f"a field of kind {kind}: this is no ONNX file")
            if length > len(data) - place:
                raise ValueError("a field goes beyond the end: the file is truncated or no ONNX file")
            value, place = data[place : place + length], place + length
        fields.append((key >> 3, value))
    return fields


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(data) or shift > 63:
            raise ValueError("a number goes beyond the end: the file is truncated or no ONNX file")
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
