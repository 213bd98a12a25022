"""PyTorch module to a clean ONNX graph."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from salgan_edge import contract
from salgan_edge.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from torch import Tensor, nn

__all__ = ["convert", "store_exactly"]

_SMALL = 65536


def convert(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: Sequence[str],
    output: str,
    dimensions: tuple[dict[int, Any], ...],
) -> onnx.ModelProto:
    """Trace `module` to an ONNX model of the contract's opset, checked in full.

    Args:
        module: in evaluation mode, one output.
        example: inputs to trace with.
        inputs: names of the inputs.
        output: name of the output.
        dimensions: axes that vary, for each input.

    Raises:
        ExportError: the exporter failed, or a dimension that should vary was fixed.
    """
    module.eval()
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module, example, dynamo=True, opset_version=contract.OPSET, input_names=list(inputs),
                output_names=[output], dynamic_shapes=dimensions, external_data=False, verify=False, verbose=False,
            )  # fmt: skip
            assert program is not None
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "graph.onnx"
                program.save(str(path), external_data=False)
                model = onnx.load(path)
    except Exception as error:  # the exporter raises whatever a pass of it ran into
        raise ExportError(
            f"torch.onnx.export failed on {type(module).__name__}: {str(error).splitlines()[0]}"
        ) from error
    _strip(model)
    store_exactly(model)
    for value, axes in zip(model.graph.input, dimensions, strict=True):
        for axis in axes:
            if not value.type.tensor_type.shape.dim[axis].dim_param:
                raise ExportError(f"axis {axis} of {value.name} was fixed by the exporter: it should vary")
    onnx.checker.check_model(model, full_check=True)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its steps, and what it lacks for models unlike ours."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _strip(model: onnx.ModelProto) -> None:
    """Remove what tells of the exporting machine: stack traces with paths, and the like."""
    model.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.graph.name = "graph"
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]


def store_exactly(model: onnx.ModelProto) -> None:
    """Store large weights in fewer bytes where that loses nothing.

    A model that was trained or published in half precision has float32 values that are float16
    values. They are stored so and cast: of a table the few rows that are looked up, of a matrix all,
    once, when onnxruntime loads the graph and folds constants. A table whose rows are whole multiples
    of a power of two (`salgan_edge.train.networks.text_encoder.round_rows_to_bytes`) is stored as int8
    with a float16 factor for each row. The results are the same to the last bit.
    """
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for weight in list(model.graph.initializer):
        users = readers.get(weight.name, [])
        if weight.data_type != TensorProto.FLOAT or not users:
            continue
        values = numpy_helper.to_array(weight)
        if values.nbytes < _SMALL:
            continue
        looked_up = all(user.op_type == "Gather" and user.input[0] == weight.name for user in users)
        if looked_up and (rows := _rows_of_bytes(values)) is not None:
            _store_rows(model, weight, users, *rows)
            continue
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if not np.array_equal(halves.astype(np.float32), values):
            continue
        if looked_up:
            weight.CopyFrom(numpy_helper.from_array(halves, weight.name))
            for user in users:
                _cast_after(model, user)
        else:
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(halves, f"{name}_half"))
            cast = helper.make_node(
                "Cast", [weight.name], [name], name=f"{name}_to_float", to=TensorProto.FLOAT
            )
            model.graph.node.insert(0, cast)
    # The exporter also notes the types of tables; they are inferred anew.
    del model.graph.value_info[:]
    model.CopyFrom(
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    )


def _rows_of_bytes(
    table: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]] | None:
    """int8 values and float16 factors (rows, 1) whose product is `table`; None where there are none."""
    if table.ndim != 2:
        return None
    _, exponent = np.frexp(np.abs(table).max(-1, keepdims=True))
    # From 2**-24, the least float16, to 2**15, the greatest power of two among them.
    factors = np.ldexp(np.float32(1), np.clip(exponent - 7, -24, 15)).astype(np.float32)
    # Up to 127.5 was rounded to 127; a row whose largest value is 128 parts has the next power.
    multiples = table / factors
    over = np.abs(multiples).max(-1, keepdims=True) > 127
    factors = np.where(over, factors * 2, factors)
    multiples = np.where(over, multiples / 2, multiples)
    whole = np.rint(multiples)
    if not np.array_equal(whole, multiples) or factors.max() > 2**15:
        return None
    return whole.astype(np.int8), factors.astype(np.float16)


def _store_rows(
    model: onnx.ModelProto,
    table: onnx.TensorProto,
    users: Sequence[onnx.NodeProto],
    values: npt.NDArray[np.int8],
    factors: npt.NDArray[np.float16],
) -> None:
    """Replace a float table by int8 values and factors, and each look-up by two and their product."""
    name = table.name
    table.CopyFrom(numpy_helper.from_array(values, name))
    model.graph.initializer.append(numpy_helper.from_array(factors, f"{name}_factors"))
    for user in users:
        result, ids = user.output[0], user.input[1]
        factor = helper.make_node(
            "Gather", [f"{name}_factors", ids], [f"{result}_factor"], name=f"{user.name}_factor", axis=0
        )
        user.output[0] = f"{result}_whole"
        product = helper.make_node(
            "Mul", [f"{result}_whole_float", f"{result}_factor_float"], [result], name=f"{user.name}_product"
        )
        casts = [
            helper.make_node(
                "Cast", [source], [f"{source}_float"], name=f"{source}_to_float", to=TensorProto.FLOAT
            )
            for source in (user.output[0], factor.output[0])
        ]
        place = list(model.graph.node).index(user) + 1
        for node in (product, *casts, factor):
            model.graph.node.insert(place, node)


def _cast_after(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    result = node.output[0]
    node.output[0] = f"{result}_half"
    cast = helper.make_node(
        "Cast", [node.output[0]], [result], name=f"{node.name}_to_float", to=TensorProto.FLOAT
    )
    model.graph.node.insert(list(model.graph.node).index(node) + 1, cast)
