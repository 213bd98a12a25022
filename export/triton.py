"""Writes a bundle as a model repository for Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import onnx
from onnx import TensorProto

from salgan_edge import contract
from salgan_edge._version import __version__
from salgan_edge.errors import ExportError, OutputError
from salgan_edge.packing import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from salgan_edge.bundle import Bundle

__all__ = [
    "GENERATOR_MODEL",
    "PIPELINE_MODEL",
    "TEXT_ENCODER_MODEL",
    "TritonKind",
    "check_triton_place",
    "write_triton_repository",
]

TritonKind = Literal["auto", "gpu", "cpu", "both"]
"""Where instances of the graphs run: on GPUs if there are any and on the CPU otherwise, on each GPU, on
the CPU, or on both side by side."""

PIPELINE_MODEL = "salgan_edge"
TEXT_ENCODER_MODEL = "salgan_edge_text_encoder"
GENERATOR_MODEL = "salgan_edge_generator"

_TEXT_BATCH = 64
_BATCH = 8
_MARK = "# Written by salgan-edge "
_HERE = Path(__file__).parent
_FILES = frozenset(
    {
        "README.md",
        f"{TEXT_ENCODER_MODEL}/config.pbtxt",
        f"{TEXT_ENCODER_MODEL}/1/model.onnx",
        f"{GENERATOR_MODEL}/config.pbtxt",
        f"{GENERATOR_MODEL}/1/model.onnx",
        f"{PIPELINE_MODEL}/config.pbtxt",
        f"{PIPELINE_MODEL}/1/model.py",
        f"{PIPELINE_MODEL}/1/tokenizer.json",
    }
)
_KINDS: dict[TritonKind, tuple[tuple[str, ...], str]] = {
    "auto": (
        ("KIND_AUTO",),
        "The graphs run on the GPUs if there are any, and on the CPU otherwise (`KIND_AUTO`).",
    ),
    "gpu": (("KIND_GPU",), "The graphs run on each GPU (`KIND_GPU`) and do not load without one."),
    "cpu": (("KIND_CPU",), "The graphs run on the CPU (`KIND_CPU`)."),
    "both": (
        ("KIND_GPU", "KIND_CPU"),
        "The graphs run on each GPU and on the CPU side by side, and do not load without a GPU.",
    ),
}
_TYPES: dict[int, str] = {
    TensorProto.UINT8: "TYPE_UINT8",
    TensorProto.INT32: "TYPE_INT32",
    TensorProto.INT64: "TYPE_INT64",
    TensorProto.FLOAT16: "TYPE_FP16",
    TensorProto.FLOAT: "TYPE_FP32",
}


def write_triton_repository(bundle: Bundle, output: Path, kind: TritonKind = "auto") -> None:
    """Write a model repository: the text encoder, the generator, and a pipeline that joins them.

    The graphs' configurations are derived from the graphs. The pipeline (`triton_pipeline`) takes texts
    and photos; an ensemble could not, since it neither tokenises nor adds the axis of prompts.

    Args:
        bundle: what to serve; it needs its text encoder.
        output: folder of the repository; an older one that this function wrote is replaced.
        kind: where the graphs run.

    Raises:
        ExportError: the bundle has no text encoder, or a graph's batch was fixed.
        OutputError: `output` cannot be written, or holds something else.
        ValueError: no such kind.
    """
    if kind not in get_args(TritonKind):
        raise ValueError(f"{kind!r} is no kind of instance: {', '.join(get_args(TritonKind))} was expected")
    if not bundle.has(contract.TEXT_ENCODER_FILE):
        raise ExportError(
            f"{bundle.place} has no text encoder, which the Triton pipeline calls: give a bundle with its texts"
        )
    check_triton_place(output)
    text_encoder = bundle.read(contract.TEXT_ENCODER_FILE)
    generator = bundle.read(contract.GENERATOR_FILE)
    files: dict[str, str | bytes] = {
        "README.md": _readme(bundle, kind),
        f"{TEXT_ENCODER_MODEL}/config.pbtxt": _text_encoder_config(bundle, text_encoder, kind),
        f"{TEXT_ENCODER_MODEL}/1/model.onnx": text_encoder,
        f"{GENERATOR_MODEL}/config.pbtxt": _generator_config(bundle, generator, kind),
        f"{GENERATOR_MODEL}/1/model.onnx": generator,
        f"{PIPELINE_MODEL}/config.pbtxt": _pipeline_config(bundle, generator),
        f"{PIPELINE_MODEL}/1/model.py": (_HERE / "triton_pipeline.py").read_bytes(),
        f"{PIPELINE_MODEL}/1/tokenizer.json": bundle.read(contract.TOKENIZER_FILE),
    }
    assert set(files) == _FILES
    with replacing(output) as staging:
        for name, content in files.items():
            path = staging / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def check_triton_place(output: Path) -> None:
    """Only an empty place or an older repository of ours may be replaced.

    Raises:
        OutputError: `output` is a file, or a folder that holds something else.
    """
    if output.is_file():
        raise OutputError(f"{output} is a file: give a folder for the Triton model repository")
    if not output.is_dir() or not any(output.iterdir()):
        return
    found = {path.relative_to(output).as_posix() for path in output.rglob("*") if not path.is_dir()}
    # The Python backend leaves compiled modules beside model.py.
    foreign = sorted(name for name in found - _FILES if "__pycache__" not in name)
    config = output / PIPELINE_MODEL / "config.pbtxt"
    ours = config.is_file() and config.read_bytes().startswith(_MARK.encode())
    if foreign or not ours:
        raise OutputError(
            f"{output} holds other files ({', '.join(foreign[:3]) or 'no repository of salgan-edge'}): "
            "give a new folder or an older Triton repository"
        )


def _text_encoder_config(bundle: Bundle, graph: bytes, kind: TritonKind) -> str:
    inputs, outputs = _tensors(graph, contract.TEXT_ENCODER_FILE)
    return _model_config(
        bundle, TEXT_ENCODER_MODEL, inputs, outputs, kind, _TEXT_BATCH,
        ["A batch holds prompts. All have the same shape, so that requests are always batched."],
        [_warmup("one prompt", 1, inputs, {}), _warmup("a full batch", _TEXT_BATCH, inputs, {})],
    )  # fmt: skip


def _generator_config(bundle: Bundle, graph: bytes, kind: TritonKind) -> str:
    inputs, outputs = _tensors(graph, contract.GENERATOR_FILE)
    height, width = bundle.manifest.input_size
    dimension = bundle.manifest.embedding_dimension
    shapes = {contract.IMAGE: (height, width, 3), contract.TEXT_EMBEDDING: (1, dimension)}
    return _model_config(
        bundle, GENERATOR_MODEL, inputs, outputs, kind, _BATCH,
        [
            "A batch holds photos; text_embedding has N prompts for each, the zero vector being free viewing.",
            "Triton batches requests whose photos have one size and whose N is the same. Ragged batches",
            "are not possible: the graph reads a batch as one array.",
        ],
        # Everything behind the first resize has one shape for each batch size, so these two
        # let CUDA choose its kernels before the first user comes.
        [_warmup("one photo", 1, inputs, shapes), _warmup("a full batch", _BATCH, inputs, shapes)],
    )  # fmt: skip


def _pipeline_config(bundle: Bundle, generator: bytes) -> str:
    inputs, outputs = _tensors(generator, contract.GENERATOR_FILE)
    images = [tensor for tensor in inputs if tensor[0] == contract.IMAGE]
    parameters = {
        "text_encoder": TEXT_ENCODER_MODEL,
        "generator": GENERATOR_MODEL,
        "text_batch": str(_TEXT_BATCH),
        "embedding_dimension": str(bundle.manifest.embedding_dimension),
    }
    ragged = "    allow_ragged_batch: true\n"
    return "\n".join(
        [
            _head(bundle),
            "# Texts and photos in, saliency out: tokenises and calls the two graphs (1/model.py).",
            "# An empty text is free viewing.",
            f'name: "{PIPELINE_MODEL}"',
            'backend: "python"',
            f"max_batch_size: {_BATCH}",
            "",
            "# Ragged: model.py gets each request by itself, so requests of different sizes may come together.",
            _list(
                "input",
                [
                    *(_tensor(*image, ragged) for image in images),
                    _tensor("text", "TYPE_STRING", (-1,), ragged),
                ],
            ),
            _list("output", [_tensor(*tensor) for tensor in outputs]),
            "dynamic_batching { }",
            "# It waits for the graphs most of the time; a second instance tokenises meanwhile.",
            _list("instance_group", ["  {\n    kind: KIND_CPU\n    count: 2\n  }"]),
            "# No model_warmup: it would call the graphs before Triton has loaded them. They warm up themselves.",
            *(
                f'parameters {{\n  key: "{key}"\n  value {{ string_value: "{value}" }}\n}}'
                for key, value in parameters.items()
            ),
            "",
        ]
    )


_Tensor = tuple[str, str, tuple[int, ...]]


def _tensors(graph: bytes, file: str) -> tuple[list[_Tensor], list[_Tensor]]:
    """Name, Triton's type and shape without the batch of each input and output; -1 where a size varies."""
    model = onnx.load_model_from_string(graph)

    def described(value: onnx.ValueInfoProto) -> _Tensor:
        tensor = value.type.tensor_type
        batch, *rest = tensor.shape.dim
        if not batch.dim_param:
            raise ExportError(
                f"{file} has a batch of {batch.dim_value} at {value.name}: Triton's batching needs one that varies"
            )
        if tensor.elem_type not in _TYPES:
            raise ExportError(
                f"{value.name} of {file} is {TensorProto.DataType.Name(tensor.elem_type)}: Triton's configuration "
                f"knows {', '.join(sorted(_TYPES.values()))} here"
            )
        shape = tuple(-1 if axis.dim_param else int(axis.dim_value) for axis in rest)
        return value.name, _TYPES[tensor.elem_type], shape

    return [described(value) for value in model.graph.input], [described(v) for v in model.graph.output]


def _model_config(
    bundle: Bundle,
    name: str,
    inputs: Sequence[_Tensor],
    outputs: Sequence[_Tensor],
    kind: TritonKind,
    batch: int,
    notes: Sequence[str],
    warmups: Sequence[str],
) -> str:
    groups = [f"  {{\n    kind: {triton_kind}\n    count: 1\n  }}" for triton_kind in _KINDS[kind][0]]
    return "\n".join(
        [
            _head(bundle),
            *(f"# {note}" for note in notes),
            f'name: "{name}"',
            'backend: "onnxruntime"',
            f"max_batch_size: {batch}",
            "",
            _list("input", [_tensor(*tensor) for tensor in inputs]),
            _list("output", [_tensor(*tensor) for tensor in outputs]),
            "# A request waits for no other; those that come while the model works are batched. A delay of",
            "# some thousand microseconds makes larger batches where throughput counts more.",
            "dynamic_batching {\n  max_queue_delay_microseconds: 0\n}",
            _list("instance_group", groups),
            _list("model_warmup", warmups),
        ]
    )


def _head(bundle: Bundle) -> str:
    return f"{_MARK}{__version__} from bundle {bundle.manifest.bundle_id}."


def _list(field: str, items: Sequence[str]) -> str:
    return f"{field} [\n" + ",\n".join(items) + "\n]\n"


def _tensor(name: str, data_type: str, shape: Sequence[int], more: str = "") -> str:
    dims = ", ".join(str(size) for size in shape)
    return f'  {{\n    name: "{name}"\n    data_type: {data_type}\n    dims: [ {dims} ]\n{more}  }}'


def _warmup(name: str, batch: int, inputs: Sequence[_Tensor], shapes: dict[str, tuple[int, ...]]) -> str:
    """A request of zeros: a black photo for free viewing, or prompts of the vocabulary's first token."""
    values = []
    for tensor, data_type, shape in inputs:
        dims = ", ".join(str(size) for size in shapes.get(tensor, shape))
        values.append(
            f'    inputs {{\n      key: "{tensor}"\n'
            f"      value {{ data_type: {data_type} dims: [ {dims} ] zero_data: true }}\n    }}"
        )
    return f'  {{\n    name: "{name}"\n    batch_size: {batch}\n' + "\n".join(values) + "\n  }"


def _readme(bundle: Bundle, kind: TritonKind) -> str:
    manifest = bundle.manifest
    text = (_HERE / "triton_readme.md").read_text(encoding="utf-8")
    for key, value in {
        "name": manifest.name,
        "version": __version__,
        "bundle_id": manifest.bundle_id,
        "pipeline": PIPELINE_MODEL,
        "text_encoder": TEXT_ENCODER_MODEL,
        "generator": GENERATOR_MODEL,
        "grid": "{}, {}".format(*manifest.grid),
        "size": "{}x{}".format(*manifest.input_size),
        "rows": str(manifest.input_size[0]),
        "columns": str(manifest.input_size[1]),
        "dimension": str(manifest.embedding_dimension),
        "kind": _KINDS[kind][1],
    }.items():
        text = text.replace(f"{{{{{key}}}}}", value)
    return text
