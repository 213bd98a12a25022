"""Checks of a bundle's graphs and tokenizer against the contract, and what a check says.

The operator sets that an ONNX file asks for are read without onnx or onnxruntime: onnxruntime does not tell them, and onnx is no dependency
of the runtime. An ONNX file is a protocol buffer, whose fields say how long they are, so the graph itself is stepped over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from salgan_edge import contract
from salgan_edge.errors import BundleError, BundleFormatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    import numpy.typing as npt

    from salgan_edge.bundle import Manifest
    from salgan_edge.session import GraphSession
    from salgan_edge.tokenizer import ClipTokenizer

__all__ = ["Check", "Status", "check_end_token", "check_graph", "first_line", "read_opset", "value"]

Status = Literal["ok", "fail", "absent", "skipped"]
"""``absent``: the bundle has nothing to check. ``skipped``: an earlier failure leaves nothing to check."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    detail: str
    """What was found, in a line."""
    figures: dict[str, Any] = field(default_factory=dict)
    """The same for programs."""


def value(
    session: GraphSession, output: str, inputs: Mapping[str, npt.NDArray[Any]]
) -> npt.NDArray[np.float32]:
    """Run a graph that may have other inputs than it should.

    Raises:
        BundleFormatError: it cannot be run.
    """
    try:
        return session.run(output, inputs)
    except Exception as error:  # onnxruntime raises a family of its own
        raise BundleFormatError(f"cannot be run: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What an error says first; onnxruntime's go on for long."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def check_graph(name: str, content: bytes, session: GraphSession, manifest: Manifest) -> Check:
    """Names, types and shapes, ids and operator set of a graph.

    Args:
        name: file of the graph.
        content: the file.
        session: made of it.
        manifest: of the bundle.
    """
    title = f"contract of {name}"
    inputs, outputs = _expected(manifest)[name]
    problems = _misfits("input", session.inputs, inputs) + _misfits("output", session.outputs, outputs)
    for key, expected in (
        (contract.META_CONTRACT, str(contract.CONTRACT_VERSION)),
        (contract.META_BUNDLE_ID, manifest.bundle_id),
    ):
        found = session.metadata.get(key)
        if found != expected:
            problems.append(f"{key} is {found or 'missing'}, {expected} was expected")
    try:
        opset = read_opset(content)
    except (ValueError, UnicodeDecodeError) as error:
        opset = {}
        problems.append(f"the operator set cannot be read: {error}")
    if opset and not contract.OPSET <= opset.get("ai.onnx", 0) <= contract.GREATEST_OPSET:
        problems.append(
            f"opset {opset.get('ai.onnx')}, {contract.OPSET} to {contract.GREATEST_OPSET} was expected"
        )
    foreign = sorted(set(opset) - {"ai.onnx"})
    if foreign:
        problems.append(f"operators of {', '.join(foreign)}: only those of ONNX itself were expected")
    figures = {"inputs": session.inputs, "outputs": session.outputs, "opset": opset}
    if problems:
        return Check(title, "fail", "; ".join(problems), figures)
    shown = ", ".join(f"{n} {_type(*value)}" for n, value in session.inputs.items())
    results = ", ".join(f"{n} {_type(*value)}" for n, value in session.outputs.items())
    return Check(title, "ok", f"{shown} -> {results}; opset {opset['ai.onnx']}", figures)


def check_end_token(tokenizer: ClipTokenizer, session: GraphSession) -> Check:
    """The text encoder reads its vector where the tokenizer ends a text.

    What follows the end must not count, and what precedes it must: an encoder that looks for
    another token finds none and gives the same vector for every text.
    """
    import numpy as np  # noqa: PLC0415 - `inspect` reads operator sets without it

    figures = {"end_token": tokenizer.end}
    try:
        ids = tokenizer.batch(["a cat", "a small dog"])
        after = ids[0].copy()
        after[int(np.argmax(after == tokenizer.end)) + 1 :] = ids[0][1]
        batch = np.stack([ids[0], after, ids[1]])
        vectors = value(session, contract.TEXT_EMBEDDING, {contract.INPUT_IDS: batch})
    except BundleError as error:
        return Check("tokenizer", "fail", str(error), figures)
    if vectors.shape[:1] != (3,):
        return Check("tokenizer", "fail", f"3 texts give vectors {vectors.shape}", figures)
    cat, other, dog = vectors
    same, different = float(np.abs(cat - other).max()), float(np.abs(cat - dog).max())
    if not same < different / 2:
        detail = (
            f"the text encoder does not read its vector at the end token {tokenizer.end}: what follows it "
            f"changes the vector by {same:.1e}, another text by {different:.1e}"
        )
        return Check("tokenizer", "fail", detail, figures)
    detail = f"ends a text with token {tokenizer.end}, where the text encoder reads its vector"
    return Check("tokenizer", "ok", detail, figures)


_Tensors = dict[str, tuple[str, tuple[int | str | None, ...]]]


def _expected(manifest: Manifest) -> dict[str, tuple[_Tensors, _Tensors]]:
    """Inputs and outputs of both graphs; None stands for an axis that varies."""
    vectors = manifest.embedding_dimension
    return {
        contract.TEXT_ENCODER_FILE: (
            {contract.INPUT_IDS: ("tensor(int64)", (None, contract.CONTEXT_LENGTH))},
            {contract.TEXT_EMBEDDING: ("tensor(float)", (None, vectors))},
        ),
        contract.GENERATOR_FILE: (
            {
                contract.IMAGE: ("tensor(uint8)", (None, None, None, 3)),
                contract.TEXT_EMBEDDING: ("tensor(float)", (None, None, vectors)),
            },
            {contract.SALIENCY: ("tensor(float)", (None, None, *manifest.grid))},
        ),
    }


def _misfits(
    what: str, found: Mapping[str, tuple[str, tuple[int | str, ...]]], expected: _Tensors
) -> list[str]:
    problems = []
    if set(found) != set(expected):
        problems.append(f"{what}s {', '.join(found)}: {', '.join(expected)} were expected")
    for name in found.keys() & expected.keys():
        kind, shape = found[name]
        wanted, axes = expected[name]
        fits = len(shape) == len(axes) and all(
            not isinstance(length, int) if axis is None else length == axis
            for length, axis in zip(shape, axes, strict=True)
        )
        if kind != wanted or not fits:
            problems.append(f"{what} {name} is {_type(kind, shape)}, {_type(wanted, axes)} was expected")
    return problems


def _type(kind: str, shape: Iterable[int | str | None]) -> str:
    """Type and shape of a tensor as people write it: ``uint8 (batch, height, width, 3)``."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    axes = ", ".join("any" if axis is None else str(axis) for axis in shape)
    return f"{'float32' if name == 'float' else name} ({axes})"


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
