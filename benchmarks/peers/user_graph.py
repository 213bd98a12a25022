"""ONNX files of the user's own, run on random inputs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from salgan_edge.benchmarks.peers.peer import Peer, macs_of

from salgan_edge.devices import Execution
from salgan_edge.errors import BundleFormatError, InputError
from salgan_edge.session import GraphSession

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    Array = npt.NDArray[Any]

__all__ = ["UserGraph", "guess_shape", "random_input", "user_peer"]

_SHAPE = r"[^,=]+=\d+(?:x\d+)*"
_WRITTEN = re.compile(rf"(?P<name>[^=]+)=(?P<file>.+?\.\w+)(?::(?P<shapes>{_SHAPE}(?:,{_SHAPE})*))?")
_EXPECTED = "name=file.onnx or name=file.onnx:input=1x3x224x224 was expected"

_SIDES = {"h", "w", "height", "width", "rows", "columns"}
"""Names of axes that are sides of an image, in lower case."""
_CHANNELS = {"c", "channel", "channels"}
_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
    "tensor(bool)": np.dtype(np.bool_),
    **{
        f"tensor({name})": np.dtype(name)
        for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
    },
}


@dataclass(frozen=True)
class UserGraph:
    """A file under a name, with the shapes of inputs that the user gave."""

    name: str
    file: Path
    shapes: Mapping[str, tuple[int, ...]]

    @staticmethod
    def parse(text: str) -> UserGraph:
        """What ``--peer`` takes.

        >>> UserGraph.parse("mine=net.onnx:image=1x3x224x224").shapes
        {'image': (1, 3, 224, 224)}

        Raises:
            InputError: it is written otherwise, or names no file that is there.
        """
        found = _WRITTEN.fullmatch(text)
        if found is None:
            raise InputError(f"--peer {text}: {_EXPECTED}")
        file = Path(found["file"])
        if not file.is_file():
            raise InputError(f"--peer {text}: there is no file {file}; {_EXPECTED}")
        shapes = {}
        for part in (found["shapes"] or "").split(",") if found["shapes"] else ():
            name, _, sizes = part.rpartition("=")
            shapes[name] = tuple(int(size) for size in sizes.split("x"))
        return UserGraph(found["name"].strip(), file, shapes)


def user_peer(graph: UserGraph, size: int, threads: int) -> Peer:
    """A graph on random inputs of its own types and shapes.

    Args:
        graph: the file.
        size: pixels of an image's side where the graph leaves it open.
        threads: CPU threads.

    Raises:
        InputError: onnxruntime cannot load or run it, an input's type is none of numbers, or the user's
            shapes do not fit.
    """
    said = f"--peer {graph.name}={graph.file}"
    try:
        session = GraphSession(graph.file, Execution("cpu", threads))
    except BundleFormatError as error:
        reason = str(error).removesuffix("; export the bundle again")
        raise InputError(f"{said}: {reason}; a file that onnxruntime reads was expected") from error
    inputs = _inputs(graph, session, size, said)
    shown = ", ".join(f"{name} {_written(array.shape)}" for name, array in inputs.items())
    output = next(iter(session.outputs))
    try:
        session.run(output, inputs)
    except Exception as error:  # onnxruntime raises a family of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        name = next(iter(inputs), "input")
        raise InputError(
            f"{said} does not run with {shown}: {reason}; give shapes that fit, such as "
            f"{graph.name}={graph.file}:{name}=1x3x224x224"
        ) from error
    note = f"{graph.file.name}, random {shown or 'nothing'}"
    return Peer(graph.name, lambda: session.run(output, inputs), note, _macs(graph.file, inputs))


def _inputs(graph: UserGraph, session: GraphSession, size: int, said: str) -> dict[str, Array]:
    if unknown := [name for name in graph.shapes if name not in session.inputs]:
        raise InputError(f"{said} has no input {unknown[0]}: {', '.join(session.inputs)} were expected")
    inputs = {}
    for name, (kind, axes) in session.inputs.items():
        if kind not in _TYPES:
            raise InputError(f"{said}: the input {name} is a {kind}; only tensors of numbers can be made up")
        shape = graph.shapes.get(name, guess_shape(axes, size))
        fits = len(shape) == len(axes) and all(
            not isinstance(axis, int) or axis == length for axis, length in zip(axes, shape, strict=True)
        )
        if not fits:
            raise InputError(
                f"{said}: the shape {_written(shape)} does not fit the input {name}, which is {_written(axes)}"
            )
        inputs[name] = random_input(kind, shape)
    return inputs


def guess_shape(axes: Sequence[int | str | None], size: int) -> tuple[int, ...]:
    """Lengths for axes that vary.

    Sides of an image are `size`: axes that are named so, and of four axes those that are neither the first
    nor the channels. Channels are 3, all others 1.

    >>> guess_shape(("batch", 3, "a", "b"), 256), guess_shape(("N", "height", "width", 3), 256)
    ((1, 3, 256, 256), (1, 256, 256, 3))

    Args:
        axes: lengths, or names or None for those that vary.
        size: in pixels.
    """
    channels = 3 if isinstance(axes[-1] if axes else None, int) and axes[-1] in (1, 3, 4) else 1
    shape = []
    for number, axis in enumerate(axes):
        name = axis.lower() if isinstance(axis, str) else ""
        image_axis = len(axes) == 4 and number > 0
        if isinstance(axis, int):
            shape.append(axis)
        elif name in _CHANNELS or (image_axis and number == channels and name not in _SIDES):
            shape.append(3)
        else:
            shape.append(size if name in _SIDES or image_axis else 1)
    return tuple(shape)


def random_input(kind: str, shape: tuple[int, ...]) -> Array:
    """Random numbers, always the same.

    Floating point is normally distributed. Whole numbers are 0 or 1, which are valid ids and masks alike;
    those of one byte without sign are pixels, 0 to 255.

    Args:
        kind: onnxruntime's name of a type, such as ``tensor(float)``.
        shape: of the array.
    """
    dtype, random = _TYPES[kind], np.random.default_rng(0)
    if dtype.kind == "f":
        return np.asarray(random.normal(size=shape)).astype(dtype)
    return np.asarray(random.integers(0, 256 if dtype == np.uint8 else 2, shape)).astype(dtype)


def _macs(file: Path, inputs: Mapping[str, Array]) -> float | None:
    """MACs with the inputs' shapes; None without `onnx`, and where it cannot infer shapes."""
    try:
        import onnx  # noqa: PLC0415 - needs the extra export
    except ImportError:
        return None
    try:
        model = onnx.load(file, load_external_data=False)
        if any(table.data_location == onnx.TensorProto.EXTERNAL for table in model.graph.initializer):
            # Their values would have to be carried along.
            return macs_of(file)
        for value in model.graph.input:
            if value.name in inputs:
                shape = onnx.helper.make_tensor_type_proto(
                    value.type.tensor_type.elem_type, inputs[value.name].shape
                )
                value.type.CopyFrom(shape)
        # What the exporter noted of inner tensors has names for axes that are now known.
        del model.graph.value_info[:]
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
        return macs_of(model.SerializeToString()) or None
    except Exception:  # noqa: BLE001 - the graph runs; that it cannot be counted is no fault of the user's
        return None


def _written(shape: Sequence[int | str | None]) -> str:
    return "x".join("?" if axis is None else str(axis) for axis in shape) or "scalar"
