"""What exported graphs are made of, in counts by hand; what the audit finds; what the first layers compute."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper, parser  # noqa: E402
from salgan_edge.export.convert import OPSETS, convert  # noqa: E402
from salgan_edge.export.facts import audit, count_macs, count_parameters  # noqa: E402
from salgan_edge.train.networks.generator import Preprocess  # noqa: E402

from salgan_edge import contract, samples  # noqa: E402
from salgan_edge.bundle import default_bundle  # noqa: E402
from salgan_edge.devices import Execution  # noqa: E402
from salgan_edge.errors import ExportError  # noqa: E402
from salgan_edge.gaze.detector import cut  # noqa: E402
from salgan_edge.session import GraphSession  # noqa: E402

GRAPHS = (contract.GENERATOR_FILE, contract.TEXT_ENCODER_FILE)


def graph(body, *, header='opset_import: ["" : 18]', ir=10, signature="(float[n, 4] x) => (float[n, 4] y)"):
    """A model in ONNX's textual notation."""
    return parser.parse_model(f"<ir_version: {ir}, {header}> agraph {signature} {body}")


CLEAN = "<float[4] w = {1, 2, 3, 4}> { y = Mul(x, w) }"
FAULTS = [
    (graph("<float[4] w = {1, 2, 3, 4}> { z = Exp(x) y = Mul(x, w) }"), "Exp z is not needed for an output"),
    (graph("<float[4] w = {1, 2, 3, 4}> { y = Exp(x) }"), "weight w is not needed for an output"),
    (graph("{ a = Exp(x) b = Exp(x) y = Add(a, b) }"), "Exp b computes the same as Exp a"),
    (
        graph("{ a = Exp(x) b = Exp(x) c = Abs(a) d = Abs(b) y = Add(c, d) }"),
        "Abs d computes the same as Abs c",
    ),
    (graph("<float[4] w = {1, 2, 3, 4}> { v = Exp(w) y = Mul(x, v) }"), "Exp v has only constant inputs"),
    (
        graph(
            "<float16[4] w = {1, 2, 3, 4}> { v = Cast<to = 1>(w) u = Exp(v) y = Mul(x, u) }"
        ),
        "Exp u has only constant inputs",
    ),
    (graph("{ z = Identity(x) y = Exp(z) }"), "Identity z does nothing"),
    (graph("{ z = Dropout(x) y = Exp(z) }"), "Dropout z does nothing"),
    (graph("{ z = RandomNormalLike(x) y = Add(x, z) }"), "RandomNormalLike z gives random numbers"),
    (
        graph(
            "<float[4] s = {1, 1, 1, 1}, float[4] b = {0, 0, 0, 0}> "
            "{ y, m, v = BatchNormalization<training_mode = 1>(x, s, b, b, s) }"
        ),
        "is in training mode",
    ),
    (graph(CLEAN, header='opset_import: ["" : 19]'), "opset 19: 18 was expected"),
    (graph(CLEAN, ir=11), "IR version 11: at most 10 was expected"),
    (
        graph("{ y = com.microsoft.Gelu(x) }", header='opset_import: ["" : 18, "com.microsoft" : 1]'),
        "Gelu y is of the operator set com.microsoft",
    ),
    (graph(CLEAN, header='opset_import: ["" : 18, "ai.onnx.training" : 1]'), "ai.onnx.training is imported"),
    (
        graph("{ s = Reshape(x, t) y = Exp(s) }", signature="(float[n, 4] x, int64[k] t) => (float[n, 4] y)"),
        "the rank of s cannot be inferred",
    ),
    (
        graph("<float[3] w = {1, 2, 3}> { y = Mul(x, w) }", signature="(float[2, 4] x) => (float[2, 4] y)"),
        "shapes contradict each other",
    ),
    (graph(CLEAN, signature="(float[n, 4] x) => (float[?, 4] y)"), "output y has an axis without a length"),
    (
        graph(
            "{ y = If(c) <then_branch = t () => (float[n, 4] a) { a = Exp(x) }, "
            "else_branch = e () => (float[n, 4] b) { b = Abs(x) }> }",
            signature="(float[n, 4] x, bool c) => (float[n, 4] y)",
        ),
        "is control flow",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("model", "fault"), FAULTS, ids=[fault for _, fault in FAULTS])
def test_audit_finds(model, fault):
    found = audit(model)
    assert any(fault in line for line in found), found


@pytest.mark.parametrize(
    "body",
    [
        CLEAN,
        "<float16[4] w = {1, 2, 3, 4}> { v = Cast<to = 1>(w) y = Mul(x, v) }",
        "<int8[4] w = {1, 2, 3, 4}, float s = {0.5}> { v = DequantizeLinear(w, s) y = Mul(x, v) }",
    ],
)
def test_audit_lets_pass(body):
    assert audit(graph(body)) == []


@pytest.mark.parametrize("name", GRAPHS)
def test_exported_graphs_are_clean(tiny_bundle, name):
    assert audit(onnx.load(tiny_bundle / name)) == []


@pytest.mark.parametrize("name", GRAPHS)
def test_embedded_graphs_are_clean(name):
    assert audit(onnx.load(default_bundle() / name)) == []


# Work and weights


def table(name, *shape):
    return numpy_helper.from_array(np.zeros(shape, np.float32), name)


@pytest.fixture
def graph_file(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "depthwise"], ["a"], pads=[1, 1, 1, 1], group=4),
        helper.make_node("Conv", ["a", "pointwise", "bias"], ["b"], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "matrix"], ["e"]),
        helper.make_node("Gemm", ["e", "dense"], ["y"], transB=1),
    ]
    tables = [
        table("depthwise", 4, 1, 3, 3), table("pointwise", 8, 4, 1, 1), table("bias", 8), table("matrix", 8, 10),
        table("dense", 5, 10),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])], tables,
    )  # fmt: skip
    path = tmp_path / "graph.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def test_macs_by_hand(graph_file):
    depthwise = 4 * 16 * 16 * 9
    pointwise = 8 * 8 * 8 * 4
    assert count_macs(graph_file) == depthwise + pointwise + 10 * 8 + 5 * 10


def test_parameters_by_hand(graph_file):
    assert count_parameters(graph_file) == 36 + 32 + 8 + 80 + 50


def test_cut_keeps_what_the_outputs_need(graph_file):
    model = cut(graph_file, ("b",), 32)
    assert [node.output[0] for node in model.graph.node] == ["a", "b"]
    assert [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim][2:] == [32, 32]
    inferred = onnx.shape_inference.infer_shapes(model)
    assert [axis.dim_value for axis in inferred.graph.output[0].type.tensor_type.shape.dim][1:] == [8, 16, 16]


class Enlarged(torch.nn.Module):
    """A large constant that the exporter leaves to every start, and one expression twice."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(1, 64, 24, 24))

    def forward(self, x):
        large = torch.nn.functional.interpolate(self.table, (48, 48), mode="bilinear")
        return (x + large).exp() * (x + large).sigmoid()


def test_constants_are_folded_whatever_their_size():
    module = Enlarged()
    x = torch.randn(2, 64, 48, 48)
    model = convert(module, (x,), ["x"], "y", ({0: torch.export.Dim("batch")},))
    assert sorted(node.op_type for node in model.graph.node) == ["Add", "Exp", "Mul", "Sigmoid"]
    with torch.inference_mode():
        expected = module(x[:1]).numpy()
    got = GraphSession(model.SerializeToString(), Execution("cpu")).run("y", {"x": x[:1].numpy()})
    assert np.allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_graph_with_a_fault_is_not_exported():
    class Random(torch.nn.Module):
        def forward(self, x):
            return x + torch.randn_like(x)

    with pytest.raises(ExportError, match=r"the graph of Random has .* gives random numbers"):
        convert(Random(), (torch.zeros(2, 3),), ["x"], "y", ({0: torch.export.Dim("batch")},))


# Resizing and normalisation against their definition

TOLERANCE = 1 / 255


def resized(image, size):
    """Antialiased bilinear resizing by its definition: a triangle as wide as the step between samples.

    Args:
        image: (H, W, C).
        size: side of the result.
    """
    pixels = image.astype(np.float64)
    for axis in (0, 1):
        length = pixels.shape[axis]
        step = length / size
        width = max(step, 1.0)
        centres = (np.arange(size) + 0.5) * step
        distance = (np.arange(length) + 0.5)[None] - centres[:, None]
        weights = np.maximum(0, 1 - np.abs(distance) / width)
        weights /= weights.sum(1, keepdims=True)
        pixels = np.moveaxis(np.tensordot(weights, pixels, (1, axis)), 0, axis)
    return pixels


def first_layers(path):
    """The part of a generator's graph from the photo to the first convolution, as a session."""
    model = onnx.load(path)
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    part = onnx.utils.Extractor(model).extract_model([contract.IMAGE], [first.input[0]])
    return GraphSession(part.SerializeToString(), Execution("cpu")), first.input[0]


def random_sizes(count):
    random = np.random.default_rng(0)
    yield from [(1, 1), (1, 300), (300, 1), (2, 1000), (1000, 2), (64, 64), (255, 257), (3, 3)]
    for _ in range(count - 8):
        # Evenly in the logarithm: many small ones, and shapes of every aspect.
        yield tuple(int(side) for side in np.exp(random.uniform(0, np.log(500), 2)).round())


@pytest.mark.parametrize(("bundle", "count"), [("tiny", 200), ("default", 30)])
def test_first_layers_compute_their_definition(bundle, count, tiny_bundle):
    folder = tiny_bundle if bundle == "tiny" else default_bundle()
    session, output = first_layers(folder / contract.GENERATOR_FILE)
    random = np.random.default_rng(1)
    worst = 0.0
    for number, (height, width) in enumerate(random_sizes(count)):
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        if number % 3 == 0:
            image[:] = 255 * (random.random((height, width, 1)) < 0.5)  # the hardest edges
        got = session.run(output, {contract.IMAGE: image[None]})[0]
        # Division by the standard deviation lies in the weights of the first convolution.
        expected = resized(image, got.shape[-1]) - 255 * np.array(contract.IMAGENET_MEAN)
        difference = (got.transpose(1, 2, 0) - expected) / (255 * np.array(contract.IMAGENET_STD))
        worst = max(worst, np.abs(difference).max())
    assert worst < TOLERANCE


def test_definition_is_pillows():
    """The written reference against another implementation, which rounds to 8 bits."""
    from PIL import Image

    photo = samples.load("coffee")
    pillow = np.asarray(Image.fromarray(photo).resize((64, 64), Image.Resampling.BILINEAR))
    assert np.abs(resized(photo, 64) - pillow).max() <= 1


# Opset


@pytest.mark.parametrize("opset", OPSETS)
def test_opset(opset):
    module = Preprocess(16)
    image = torch.randint(0, 256, (2, 30, 50, 3), dtype=torch.uint8)
    dimensions = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("h", min=2)},)
    model = convert(module, (image,), ["image"], "pixels", dimensions, opset)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    got = GraphSession(model.SerializeToString(), Execution("cpu")).run(
        "pixels", {"image": image.numpy()[:1]}
    )
    assert np.abs(got - module(image[:1]).numpy()).max() < 1e-4


# Old and new onnxruntime

OLDEST = """
import sys
import numpy as np
import onnxruntime
values = np.load(sys.argv[1])
for name, output in (("text_encoder", "text_embedding"), ("generator", "saliency")):
    session = onnxruntime.InferenceSession(f"{sys.argv[2]}/{name}.onnx", providers=["CPUExecutionProvider"])
    got = session.run([output], {i.name: values[i.name] for i in session.get_inputs()})[0]
    difference = float(np.abs(got - values[f"expected_{output}"]).max())
    print(onnxruntime.__version__, name, difference)
    assert difference < 1e-5, difference
"""


@pytest.mark.slow
def test_oldest_onnxruntime(tmp_path, tiny_bundle):
    """The embedded graphs, and freshly exported ones, give the same on onnxruntime 1.20."""
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "-q", "onnxruntime==1.20.*", "numpy"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"onnxruntime 1.20 cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    random = np.random.default_rng(0)
    ids = np.full((3, 77), 49407)
    ids[:, 0] = 49406
    ids[0, 1:4], ids[1, 1:76] = (320, 2368, 7), 518
    for folder in (Path(str(default_bundle())), tiny_bundle):
        sessions = {name: GraphSession(folder / name, Execution("cpu")) for name in GRAPHS}
        values = {contract.INPUT_IDS: ids, contract.IMAGE: samples.load("coffee")[None]}
        text = sessions[contract.TEXT_ENCODER_FILE].run(contract.TEXT_EMBEDDING, {contract.INPUT_IDS: ids})
        values[contract.TEXT_EMBEDDING] = text[None] + random.normal(size=(1, 1, 512)).astype(np.float32) / 99
        maps = sessions[contract.GENERATOR_FILE].run(
            contract.SALIENCY, {name: values[name] for name in (contract.IMAGE, contract.TEXT_EMBEDDING)}
        )
        np.savez(tmp_path / "v.npz", **values, expected_text_embedding=text, expected_saliency=maps)
        command = [str(python), "-c", OLDEST, str(tmp_path / "v.npz"), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("1.20.")


def test_folded_weight_is_stored(tiny_bundle):
    """The enlarged position map is in the file: no start computes it."""
    model = onnx.load(tiny_bundle / contract.GENERATOR_FILE)
    constants = {
        tensor.name: tuple(numpy_helper.to_array(tensor).shape) for tensor in model.graph.initializer
    }
    resizes = [node for node in model.graph.node if node.op_type == "Resize"]
    assert all(node.input[0] not in constants for node in resizes)
