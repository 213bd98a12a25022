"""PyTorch modules with the contract's inputs and outputs, and their way to clean ONNX graphs."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes import Sequential, common
from onnxscript.optimizer import fold_constants
from salgan_edge.export.facts import audit
from torch import Tensor, nn
from torch.export import Dim

from salgan_edge import contract
from salgan_edge.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from transformers import CLIPTextModelWithProjection

__all__ = [
    "GENERATOR_DIMENSIONS",
    "OPSETS",
    "TEXT_ENCODER_DIMENSIONS",
    "TextEncoderGraph",
    "check_opset",
    "check_size",
    "convert",
    "generator_example",
    "store_exactly",
    "text_encoder_example",
]

_BATCH = Dim("batch")
GENERATOR_DIMENSIONS = (
    {0: _BATCH, 1: Dim("height", min=2), 2: Dim("width", min=2)},
    {0: _BATCH, 1: Dim("prompts")},
)
"""Axes of ``image`` and ``text_embedding`` that vary."""

TEXT_ENCODER_DIMENSIONS = ({0: Dim("prompts")},)
"""Axes of ``input_ids`` that vary."""


class TextEncoderGraph(nn.Module):
    """A CLIP text model whose output is L2-normalised, as the contract wants it."""

    def __init__(self, model: CLIPTextModelWithProjection) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        """Text vectors (N, dimension), L2-normalised, of token ids int64 (N, 77)."""
        vectors: Tensor = self.model(input_ids=input_ids).text_embeds
        return nn.functional.normalize(vectors, dim=-1)


def generator_example(dimension: int) -> tuple[Tensor, Tensor]:
    """Inputs to trace the generator with; no axis that varies has length 1, which would be fixed."""
    image = torch.randint(0, 256, (2, 300, 400, 3), dtype=torch.uint8)
    return image, torch.randn(2, 3, dimension)


def text_encoder_example(vocabulary: int) -> tuple[Tensor]:
    """Inputs to trace the text encoder with: the end token in different places."""
    ids = torch.full((2, contract.CONTEXT_LENGTH), vocabulary - 1, dtype=torch.int64)
    ids[:, 0] = vocabulary - 2
    ids[0, 1:4] = 1
    ids[1, 1:9] = 2
    return (ids,)


OPSETS = range(contract.OPSET, contract.GREATEST_OPSET + 1)
"""Opsets that a graph can have."""

_SMALL = 8192
_LARGEST_FILE = 2**31 - 1
"""Bytes of a protobuf message, hence of a graph in one file."""


def convert(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: Sequence[str],
    output: str,
    dimensions: tuple[dict[int, Any], ...],
    opset: int = contract.OPSET,
) -> onnx.ModelProto:
    """Trace `module` to an ONNX model, checked in full, without constants left to fold or dead nodes.

    Args:
        module: in evaluation mode, one output.
        example: inputs to trace with.
        inputs: names of the inputs.
        output: name of the output.
        dimensions: axes that vary, for each input.
        opset: version of the operators, one of `OPSETS`.

    Raises:
        ExportError: no such opset, weights of more than one file, the exporter failed, a dimension that
            should vary was fixed, or the graph does not pass `salgan_edge.export.facts`.
    """
    check_opset(opset)
    check_size(module)
    module.eval()
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module, example, dynamo=True, opset_version=opset, input_names=list(inputs),
                output_names=[output], dynamic_shapes=dimensions, external_data=False, verify=False, verbose=False,
            )  # fmt: skip
            assert program is not None
            model: onnx.ModelProto = program.model_proto
    except Exception as error:  # the exporter raises whatever a pass of it ran into
        raise ExportError(
            f"torch.onnx.export failed on {type(module).__name__}: {str(error).splitlines()[0]}"
        ) from error
    model = _tidied(model)
    _strip(model)
    store_exactly(model)
    for value, axes in zip(model.graph.input, dimensions, strict=True):
        for axis in axes:
            if not value.type.tensor_type.shape.dim[axis].dim_param:
                raise ExportError(f"axis {axis} of {value.name} was fixed by the exporter: it should vary")
    onnx.checker.check_model(model, full_check=True)
    if problems := audit(model, opset):
        raise ExportError(
            f"the graph of {type(module).__name__} has {len(problems)} faults: {'; '.join(problems[:3])}"
        )
    return model


def check_opset(opset: int) -> None:
    """Raise where a graph cannot have this opset.

    Raises:
        ExportError: it is not one of `OPSETS`.
    """
    if opset not in OPSETS:
        raise ExportError(
            f"opset {opset} is out of range: {OPSETS[0]} to {OPSETS[-1]} was expected; {contract.OPSET} runs everywhere"
        )


def check_size(module: nn.Module) -> None:
    """Raise where the weights of a module do not fit into one ONNX file.

    Raises:
        ExportError: they take more than 2 GB as float32.
    """
    size = 4 * sum(tensor.numel() for tensor in (*module.parameters(), *module.buffers()))
    if size > _LARGEST_FILE:
        raise ExportError(
            f"the weights of {type(module).__name__} take {size / 1e9:.1f} GB as float32, and a graph in one file holds "
            f"{_LARGEST_FILE / 1e9:.1f} GB at most: take a smaller model"
        )


def _tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without what need not be computed, and without nodes and weights that are there twice."""
    program = onnx_ir.from_proto(model)
    # The exporter folds constants too, but leaves what is large to every start.
    fold_constants(program, input_size_limit=_LARGEST_FILE, output_size_limit=_LARGEST_FILE)
    tidy = Sequential(
        common.RemoveUnusedNodesPass(),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
    )
    return onnx_ir.to_proto(tidy(program).model)


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
