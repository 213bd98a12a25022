"""Triton model repositories: what the configurations say, and what the pipeline computes."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from salgan_edge.export import triton  # noqa: E402
from salgan_edge.export.triton import write_triton_repository  # noqa: E402

from salgan_edge import contract, samples  # noqa: E402
from salgan_edge.bundle import Bundle, default_bundle  # noqa: E402
from salgan_edge.devices import Execution  # noqa: E402
from salgan_edge.errors import ExportError, OutputError  # noqa: E402
from salgan_edge.images import write_image  # noqa: E402
from salgan_edge.resample import fit  # noqa: E402
from salgan_edge.session import GraphSession  # noqa: E402
from salgan_edge.tokenizer import ClipTokenizer  # noqa: E402

TEXT_ENCODER, GENERATOR, PIPELINE = "salgan_edge_text_encoder", "salgan_edge_generator", "salgan_edge"
NO_CLIENT = "tritonclient[grpc] is not installed: it holds Triton's official protobuf definitions"
# tensor types of ONNX -> of Triton, as both define them
TYPES = {"tensor(uint8)": "TYPE_UINT8", "tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32"}


@pytest.fixture(scope="module")
def bundle():
    return Bundle.open(default_bundle())


@pytest.fixture(scope="module")
def repository(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("triton") / "models"
    write_triton_repository(bundle, folder)
    return folder


@pytest.fixture(scope="module")
def graphs(repository):
    return {
        name: GraphSession(repository / name / "1" / "model.onnx", Execution("cpu", 1))
        for name in (TEXT_ENCODER, GENERATOR)
    }


def parse(repository, model):
    """config.pbtxt by Triton's own definitions."""
    model_config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason=NO_CLIENT)
    from google.protobuf import text_format

    text = (repository / model / "config.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def data_type(tensor):
    from tritonclient.grpc.model_config_pb2 import DataType

    return DataType.Name(tensor.data_type)


# The configurations


def test_layout(repository, bundle):
    files = {p.relative_to(repository).as_posix() for p in repository.rglob("*") if p.is_file()}
    assert files == {
        "README.md",
        f"{TEXT_ENCODER}/config.pbtxt", f"{TEXT_ENCODER}/1/model.onnx",
        f"{GENERATOR}/config.pbtxt", f"{GENERATOR}/1/model.onnx",
        f"{PIPELINE}/config.pbtxt", f"{PIPELINE}/1/model.py", f"{PIPELINE}/1/tokenizer.json",
    }  # fmt: skip
    assert (repository / GENERATOR / "1/model.onnx").read_bytes() == bundle.read(contract.GENERATOR_FILE)
    assert (repository / TEXT_ENCODER / "1/model.onnx").read_bytes() == bundle.read(
        contract.TEXT_ENCODER_FILE
    )


@pytest.mark.parametrize("model", [TEXT_ENCODER, GENERATOR])
def test_configuration_agrees_with_the_graph(repository, graphs, model):
    """By the rules of Triton's onnxruntime backend: the batch is left out, -1 stands for what varies."""
    config, graph = parse(repository, model), graphs[model]
    assert (config.name, config.backend) == (model, "onnxruntime")
    assert config.max_batch_size > 1
    for tensors, expected in ((config.input, graph.inputs), (config.output, graph.outputs)):
        assert [tensor.name for tensor in tensors] == list(expected)
        for tensor in tensors:
            kind, (batch, *shape) = expected[tensor.name]
            assert data_type(tensor) == TYPES[kind]
            assert isinstance(batch, str), "the batch must vary"
            assert list(tensor.dims) == [-1 if isinstance(size, str) else size for size in shape]
            assert not tensor.HasField("reshape")
    assert config.HasField("dynamic_batching")


@pytest.mark.parametrize("model", [TEXT_ENCODER, GENERATOR])
def test_warm_up_requests_run(repository, graphs, model):
    config = parse(repository, model)
    batches = [warmup.batch_size for warmup in config.model_warmup]
    assert batches == [1, config.max_batch_size]
    types_of = {tensor.name: data_type(tensor) for tensor in config.input}
    numpy_types = {"TYPE_UINT8": np.uint8, "TYPE_INT64": np.int64, "TYPE_FP32": np.float32}
    for warmup in config.model_warmup:
        assert set(warmup.inputs) == set(types_of)
        feeds = {}
        for name, value in warmup.inputs.items():
            assert data_type(value) == types_of[name]
            assert value.zero_data
            feeds[name] = np.zeros((warmup.batch_size, *value.dims), numpy_types[types_of[name]])
        (output,) = graphs[model].outputs
        result = graphs[model].run(output, feeds)
        assert len(result) == warmup.batch_size
        assert np.isfinite(result).all()
        (tensor,) = config.output
        assert all(said in (-1, size) for said, size in zip(tensor.dims, result.shape[1:], strict=True))


def test_pipeline_configuration(repository, graphs):
    config = parse(repository, PIPELINE)
    assert (config.name, config.backend, config.default_model_filename) == (PIPELINE, "python", "")
    image, text = config.input
    assert (image.name, data_type(image), list(image.dims)) == ("image", "TYPE_UINT8", [-1, -1, 3])
    assert (text.name, data_type(text), list(text.dims)) == ("text", "TYPE_STRING", [-1])
    assert image.allow_ragged_batch
    assert text.allow_ragged_batch
    (saliency,) = config.output
    (expected,) = parse(repository, GENERATOR).output
    assert saliency == expected
    # What reaches the generator in one request is at most what it accepts.
    assert config.max_batch_size == parse(repository, GENERATOR).max_batch_size
    assert int(config.parameters["text_batch"].string_value) == parse(repository, TEXT_ENCODER).max_batch_size
    for key in ("text_encoder", "generator"):
        assert config.parameters[key].string_value in graphs
    assert not config.model_warmup


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("auto", ["KIND_AUTO"]),
        ("gpu", ["KIND_GPU"]),
        ("cpu", ["KIND_CPU"]),
        ("both", ["KIND_GPU", "KIND_CPU"]),
    ],
)
def test_instance_groups(bundle, tmp_path, kind, expected):
    write_triton_repository(bundle, tmp_path / "models", kind)
    for model in (TEXT_ENCODER, GENERATOR):
        groups = parse(tmp_path / "models", model).instance_group
        assert [group.Kind.Name(group.kind) for group in groups] == expected
        assert all(group.count == 1 for group in groups)
    (group,) = parse(tmp_path / "models", PIPELINE).instance_group
    assert group.Kind.Name(group.kind) == "KIND_CPU"
    assert expected[0] in (tmp_path / "models" / "README.md").read_text() or kind == "both"


def test_unknown_kind(bundle, tmp_path):
    with pytest.raises(ValueError, match="'tpu' is no kind of instance: auto, gpu, cpu, both was expected"):
        write_triton_repository(bundle, tmp_path / "models", "tpu")


def test_sizes_come_from_the_bundle(tiny_bundle, tmp_path):
    write_triton_repository(Bundle.open(tiny_bundle), tmp_path / "models")
    config = parse(tmp_path / "models", GENERATOR)
    assert list(config.output[0].dims) == [-1, 8, 8]
    assert list(config.model_warmup[0].inputs["image"].dims) == [64, 64, 3]
    assert "64x64 pixels" in " ".join((tmp_path / "models" / "README.md").read_text().split())


def test_fixed_batch_is_refused(bundle):
    model = onnx.load_model_from_string(bundle.read(contract.GENERATOR_FILE))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(ExportError, match=r"generator\.onnx has a batch of 1 at image"):
        triton._tensors(model.SerializeToString(), contract.GENERATOR_FILE)


# Where it is written


def test_older_repository_is_replaced(bundle, tmp_path):
    folder = tmp_path / "models"
    write_triton_repository(bundle, folder, "gpu")
    compiled = folder / PIPELINE / "1" / "__pycache__"
    compiled.mkdir()
    (compiled / "model.pyc").write_bytes(b"x")
    write_triton_repository(bundle, folder, "cpu")
    assert "KIND_CPU" in (folder / GENERATOR / "config.pbtxt").read_text()
    assert not compiled.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


@pytest.mark.parametrize("foreign", ["resnet/config.pbtxt", f"{GENERATOR}/2/model.onnx", "notes.txt"])
def test_foreign_content_is_kept(bundle, tmp_path, foreign):
    folder = tmp_path / "models"
    write_triton_repository(bundle, folder)
    (folder / foreign).parent.mkdir(parents=True, exist_ok=True)
    (folder / foreign).write_text("mine")
    with pytest.raises(OutputError, match=f"holds other files \\({foreign}\\)"):
        write_triton_repository(bundle, folder)
    assert (folder / foreign).read_text() == "mine"


def test_a_repository_of_someone_else_is_kept(bundle, tmp_path):
    (tmp_path / "models" / PIPELINE).mkdir(parents=True)
    (tmp_path / "models" / PIPELINE / "config.pbtxt").write_text("name: 'mine'")
    with pytest.raises(OutputError, match="no repository of salgan-edge"):
        write_triton_repository(bundle, tmp_path / "models")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file: give a folder"):
        write_triton_repository(bundle, tmp_path / "file")


# The pipeline, in a server made of onnxruntime


class _Tensor:
    def __init__(self, name, value):
        self._name, self._value = name, value

    def name(self):
        return self._name

    def as_numpy(self):
        return self._value


class _Response:
    def __init__(self, output_tensors, error=None):
        self._tensors, self._error = output_tensors, error

    def output_tensors(self):
        return self._tensors

    def has_error(self):
        return self._error is not None

    def error(self):
        return self._error


class _Error:
    def __init__(self, message):
        self._message = message

    def message(self):
        return self._message


class _Request:
    def __init__(self, tensors):
        self.tensors = tensors


@pytest.fixture
def server(repository, graphs, monkeypatch):
    """Triton's Python backend as model.py sees it; `calls` notes what the graphs are asked."""
    calls = []

    class InferenceRequest:
        def __init__(self, model_name, requested_output_names, inputs, preferred_memory):
            assert preferred_memory == ("memory", "cpu", 0)
            self.model, self.outputs, self.inputs = model_name, requested_output_names, inputs

        async def async_exec(self):
            await asyncio.sleep(0)
            feeds = {tensor.name(): tensor.as_numpy() for tensor in self.inputs}
            calls.append((self.model, feeds))
            (output,) = self.outputs
            if 0 in next(iter(feeds.values())).shape:
                return _Response([], _Error("the tensor is empty"))
            return _Response([_Tensor(output, graphs[self.model].run(output, feeds))])

    def by_name(tensors, name):
        (found,) = [tensor for tensor in tensors if tensor.name() == name]
        return found

    utils = types.ModuleType("triton_python_backend_utils")
    utils.Tensor, utils.InferenceResponse, utils.TritonError = _Tensor, _Response, _Error
    utils.TritonModelException = type("TritonModelException", (Exception,), {})
    utils.InferenceRequest = InferenceRequest
    utils.TRITONSERVER_MEMORY_CPU = "cpu"
    utils.PreferredMemory = lambda kind, device: ("memory", kind, device)
    utils.get_input_tensor_by_name = lambda request, name: by_name(request.tensors, name)
    utils.get_output_tensor_by_name = lambda response, name: by_name(response.output_tensors(), name)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    spec = importlib.util.spec_from_file_location("model", repository / PIPELINE / "1" / "model.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    model.initialize({"model_config": model_config_json(repository)})
    return types.SimpleNamespace(model=model, calls=calls, module=module)


def model_config_json(repository):
    """The part of Triton's JSON that model.py reads."""
    text = (repository / PIPELINE / "config.pbtxt").read_text()
    pairs = re.findall(r'key: "(\w+)"\s*value \{ string_value: "([^"]*)" \}', text)
    assert len(pairs) == 4
    return json.dumps({"parameters": {key: {"string_value": value} for key, value in pairs}})


def request(image, texts):
    return _Request([_Tensor("image", image), _Tensor("text", np.array(texts, dtype=object))])


def ask(server, *requests):
    responses = asyncio.run(server.model.execute(list(requests)))
    assert len(responses) == len(requests)
    return responses


def saliency(response):
    assert not response.has_error(), response.error().message()
    (tensor,) = response.output_tensors()
    assert tensor.name() == "saliency"
    return tensor.as_numpy()


def grids(predictor, image, texts):
    """What SaliencyPredictor enlarges to its maps."""
    vectors = predictor.embed(texts)
    return predictor.generator.run("saliency", {"image": image[None], "text_embedding": vectors[None]})[0]


def test_pipeline_is_the_predictor(server, predictor):
    coffee, cat = samples.load("coffee"), samples.load("chelsea")
    first, second = ask(
        server,
        request(coffee[None], [[b"a spoon", b"", "ein Löffel 🥄".encode()]]),
        request(np.stack([cat, cat[:, ::-1]]), [[b"a cat"], [b"the ears"]]),
    )
    expected = grids(predictor, coffee, ["a spoon", None, "ein Löffel 🥄"])
    assert saliency(first).shape == (1, 3, 32, 32)
    assert np.abs(saliency(first)[0] - expected).max() < 1e-5
    assert np.abs(expected[0] - expected[1]).max() > 0.05  # so a mix-up would show
    for number, (image, text) in enumerate([(cat, "a cat"), (cat[:, ::-1], "the ears")]):
        got = saliency(second)[number]
        assert np.abs(got - grids(predictor, np.ascontiguousarray(image), [text])).max() < 1e-5
    # The map that users of the library see is this grid, enlarged, where the client fits its photo as the library does.
    large = cv2.resize(coffee[:, :533], (640, 480))
    fitted = fit(large, 256, 256)
    assert fitted.shape == (256, 256, 3)
    (answer,) = ask(server, request(fitted[None], [[b"a spoon"]]))
    result = predictor.predict(large, "a spoon")
    enlarged = type(result).from_grid(large, None, saliency(answer)[0, 0]).map
    assert np.abs(enlarged - result.map).max() < 1e-5


def test_texts_are_encoded_once(server):
    image = samples.load("coffee")[None, :64, :64]
    ask(server, request(image, [[b"a spoon", b"a cup", b"a spoon"]]))
    ask(server, request(image, [[b"a cup", b"  ", b"a spoon"]]))
    ask(server, request(image, [[b"a saucer"]]))
    encoded = [feeds["input_ids"] for model, feeds in server.calls if model == TEXT_ENCODER]
    assert [len(ids) for ids in encoded] == [2, 1]
    vectors = [feeds["text_embedding"][0] for model, feeds in server.calls if model == GENERATOR]
    assert np.array_equal(vectors[0][0], vectors[1][2])
    assert np.array_equal(vectors[0][0], vectors[0][2])
    assert not vectors[1][1].any()


def test_more_texts_than_a_batch(server, monkeypatch):
    monkeypatch.setattr(server.module, "_CACHED_PROMPTS", 3)
    texts = [f"thing {number}".encode() for number in range(70)]
    image = samples.load("coffee")[None, :64, :64]
    (response,) = ask(server, request(image, [texts]))
    assert saliency(response).shape == (1, 70, 32, 32)
    assert [len(feeds["input_ids"]) for model, feeds in server.calls if model == TEXT_ENCODER] == [64, 6]
    assert len(server.model._vectors) == 3


@pytest.mark.parametrize("text", ["a dog", "x", "word " * 100, "The  LAMPS\n on the wall!", "🦒 日本語"])
def test_token_ids(server, bundle, text):
    ids = server.model._ids([text])
    assert np.array_equal(ids, ClipTokenizer(bundle.read(contract.TOKENIZER_FILE)).batch([text]))


def test_one_bad_request_does_not_spoil_the_others(server):
    image = samples.load("coffee")[None, :64, :64]
    good, reserved, encoded, empty = ask(
        server,
        request(image, [[b"a spoon"]]),
        request(image, [[b"a <|EndOfText|> b"]]),
        request(image, [[b"\xff\xfe"]]),
        request(image[:, :0], [[b"a cup"]]),
    )
    assert saliency(good).shape == (1, 1, 32, 32)
    assert "reserved by CLIP" in reserved.error().message()
    assert "is no UTF-8" in encoded.error().message()
    assert empty.error().message() == "the tensor is empty"


def test_example_of_the_readme(repository, server, predictor, tmp_path, monkeypatch):
    """The client code as written, its request checked against the configuration."""
    client = pytest.importorskip("tritonclient.grpc", reason=NO_CLIENT)
    from tritonclient.utils import deserialize_bytes_tensor

    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert "{{" not in readme
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    write_image(tmp_path / "photo.jpg", samples.load("coffee"))
    monkeypatch.chdir(tmp_path)
    config = parse(repository, PIPELINE)

    class Client:
        def __init__(self, url):
            assert url == "localhost:8001"

        def infer(self, model, inputs):
            assert model == config.name
            tensors = []
            for described, given in zip(config.input, inputs, strict=True):
                assert given.name() == described.name
                batch, *shape = given.shape()
                assert batch <= config.max_batch_size
                assert all(said in (-1, size) for said, size in zip(described.dims, shape, strict=True))
                expected = {"TYPE_UINT8": "UINT8", "TYPE_STRING": "BYTES"}[data_type(described)]
                assert given.datatype() == expected
                raw = given._get_content()
                value = deserialize_bytes_tensor(raw) if expected == "BYTES" else np.frombuffer(raw, np.uint8)
                tensors.append(_Tensor(given.name(), value.reshape(given.shape())))
            (response,) = ask(server, _Request(tensors))
            return types.SimpleNamespace(as_numpy=lambda name: {"saliency": saliency(response)}[name])

    monkeypatch.setattr(client, "InferenceServerClient", Client)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    from salgan_edge.images import read_image

    expected = grids(predictor, read_image(Path("photo.jpg")), ["a spoon", None])
    assert np.abs(names["saliency"] - expected).max() < 1e-5
    assert names["spoon"].shape == samples.load("coffee").shape[:2]


def test_command(tmp_path, monkeypatch, run):
    """A place that cannot be replaced is refused before the export begins."""
    pytest.importorskip("torch")
    from salgan_edge.export import write

    exported = []
    monkeypatch.setattr(
        write, "export_bundle", lambda *_a, **_k: exported.append(1) or Bundle.open(default_bundle())
    )
    folder = tmp_path / "models"
    code, told, _ = run("export", "-o", "b", "--triton", folder, "--triton-kind", "cpu")
    assert code == 0
    assert f"{folder}: Triton model repository" in told
    assert "kind: KIND_CPU" in (folder / GENERATOR / "config.pbtxt").read_text()
    (folder / "notes.txt").write_text("mine")
    code, _, errors = run("export", "-o", "b", "--triton", folder)
    assert code == 1
    assert "holds other files (notes.txt)" in errors
    assert exported == [1]
