"""Graphs of reduced precision: what they compute, and that none is written that fails."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from salgan_edge.export import precision  # noqa: E402
from salgan_edge.export.convert import store_exactly  # noqa: E402
from salgan_edge.export.gate import (  # noqa: E402
    HUMAN,
    GateResult,
    GraphRun,
    Limits,
    read_views,
)
from salgan_edge.export.precision import (  # noqa: E402
    Measured,
    Processor,
    Speed,
    apply_precision,
    fastest,
)
from salgan_edge.export.quantise import (  # noqa: E402
    SWITCHES,
    Observed,
    Plan,
    Range,
    least_error,
    min_max,
    observe,
    only_into_silu,
)
from salgan_edge.export.rewrite import (  # noqa: E402
    Structure,
    quantise_text_encoder,
    restore_floats,
    to_half,
)
from salgan_edge.export.variants import Workbench  # noqa: E402
from salgan_edge.export.write import export_bundle  # noqa: E402

from salgan_edge import SaliencyPredictor, contract, samples  # noqa: E402
from salgan_edge.bundle import Bundle  # noqa: E402
from salgan_edge.devices import Execution  # noqa: E402
from salgan_edge.errors import ExportError, PrecisionError  # noqa: E402
from salgan_edge.session import GraphSession  # noqa: E402
from salgan_edge.tokenizer import ClipTokenizer  # noqa: E402

FILES = (contract.TEXT_ENCODER_FILE, contract.GENERATOR_FILE)
ANY = Limits(cc_drop=2, guide_drop=1, peak_share=0)


@pytest.fixture
def graphs(tiny_bundle):
    return {file: onnx.load(tiny_bundle / file) for file in FILES}


@pytest.fixture
def tokenizer(tiny_bundle):
    return ClipTokenizer(tiny_bundle / "tokenizer.json")


@pytest.fixture(scope="module")
def bench(tiny_bundle):
    """Variants of the tiny bundle within limits that nothing misses; the search for layers is made once."""
    graphs = {file: onnx.load(tiny_bundle / file) for file in FILES}
    made = {}

    class Cached(Workbench):
        def make(self, kind):
            if kind not in made:
                made[kind] = super().make(kind)
            return made[kind]

    tokenizer = ClipTokenizer(tiny_bundle / "tokenizer.json")
    return Cached(graphs, tokenizer, read_views(), ANY, reduce_range=False, report=lambda _line: None)


@pytest.fixture
def shared_bench(monkeypatch, bench):
    monkeypatch.setattr(precision, "_bench", lambda *_: (bench, Processor("test", vnni=True)))
    return bench


def small_network():
    """x -> Conv a -> SiLU -> MaxPool -> Conv b (depthwise, no bias) -> Conv c -> y, with weights of known size."""
    random = np.random.default_rng(0)
    weights = {
        "a.weight": random.normal(size=(8, 3, 3, 3)), "a.bias": random.normal(size=8),
        "b.weight": random.normal(size=(8, 1, 3, 3)), "c.weight": random.normal(size=(2, 8, 1, 1)),
    }  # fmt: skip
    nodes = [
        helper.make_node("Relu", ["x"], ["before"], name="node_relu"),
        helper.make_node("Conv", ["before", "a.weight", "a.bias"], ["a"], name="node_a"),
        helper.make_node("Sigmoid", ["a"], ["gate"], name="node_gate"),
        helper.make_node("Mul", ["a", "gate"], ["silu"], name="node_silu"),
        helper.make_node(
            "MaxPool", ["silu"], ["pool"], name="node_pool", kernel_shape=[2, 2], strides=[2, 2]
        ),
        helper.make_node("Conv", ["pool", "b.weight"], ["b"], name="node_b", group=8),
        helper.make_node("Conv", ["b", "c.weight"], ["c"], name="node_c"),
        helper.make_node("Exp", ["c"], ["y"], name="node_exp"),
    ]
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, 3, 3])],
        [numpy_helper.from_array(0.2 * v.astype(np.float32), k) for k, v in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def small_ranges(model, x):
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = list(Plan(model).activations)
    watched.graph.output.extend(v for v in model.graph.value_info if v.name in names)
    run = GraphRun(watched)
    return observe(lambda wanted, _: run(wanted, {"x": x}), names, 1)


X = np.random.default_rng(1).normal(size=(4, 3, 12, 12)).astype(np.float32)


def test_what_lies_between_the_layers():
    structure = Structure(small_network())
    assert structure.inner == {"node_a", "node_gate", "node_silu", "node_pool", "node_b"}
    assert [(layer.name, layer.nodes) for layer in structure.layers] == [
        ("a", ("node_a", "node_gate", "node_silu", "node_pool")),
        ("b", ("node_b",)),
    ]
    # The product of SiLU itself goes on, not what it is made of.
    assert only_into_silu(structure.model) == ["a"]


def test_range_in_numbers():
    kept = Range(-1.0, 1.55)
    assert kept.scale == pytest.approx(0.01)
    assert kept.zero == 100
    # Zero must be one of the values: padding is zero.
    assert (Range(0.5, 2.55).scale, Range(0.5, 2.55).zero) == (pytest.approx(0.01), 0)
    assert Range(0.0, 0.0).scale > 0


def test_what_silu_ignores_is_clipped():
    low = Observed()
    low.add(np.linspace(-80, 8, 1000, dtype=np.float32))
    plain, behind = (least_error({"t": low}, silu)["t"] for silu in ((), ("t",)))
    assert plain.low < -70
    assert -20 < behind.low < -3
    assert min_max({"t": low})["t"] == Range(-80, 8)


def test_quantised_layers_against_numpy():
    """Weights within half a step of each channel, biases exact to a step, results near float's."""
    model = small_network()
    plan, ranges = Plan(model), min_max(small_ranges(small_network(), X))
    quantised = plan.quantised(ranges, {0, 1}, reduce_range=False)
    stored = {w.name: numpy_helper.to_array(w) for w in quantised.graph.initializer}
    floats = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    for node, name in (("node_a", "a.weight"), ("node_b", "b.weight")):
        whole, scales = stored[f"{node}_weight_q"], stored[f"{node}_weight_scales"]
        assert whole.dtype == np.int8
        assert np.abs(whole).max() == 127
        restored = whole * scales[:, None, None, None]
        assert (np.abs(restored - floats[name]) <= scales[:, None, None, None] * 0.5001).all()
        assert scales == pytest.approx(np.abs(floats[name]).max((1, 2, 3)) / 127, rel=1e-5)
    step = stored["node_a_bias_scales"]
    assert step == pytest.approx(stored["node_a_weight_scales"] * ranges["before"].scale, rel=1e-5)
    assert np.abs(stored["node_a_bias_q"] * step - floats["a.bias"]).max() <= step.max()
    # The last layer is not touched, and pooling moves values without another scale.
    assert "c.weight" in stored
    assert stored["pool_scale"] == stored["silu_scale"]
    got, expected = (GraphRun(m)(["y"], {"x": X})[0] for m in (quantised, model))
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.999
    assert np.abs(got - expected).max() > 0


def test_seven_bits_for_processors_without_vnni():
    model = small_network()
    ranges = min_max(small_ranges(model, X))
    reduced = Plan(model).quantised(ranges, {0, 1}, reduce_range=True)
    whole = [numpy_helper.to_array(w) for w in reduced.graph.initializer if w.name.endswith("_weight_q")]
    assert [np.abs(w).max() for w in whole] == [63, 63]


def test_onnxruntime_runs_integer_kernels(tmp_path):
    """The pattern must be one that onnxruntime fuses; left as it is, it would be slower than float."""
    import onnxruntime

    model = small_network()
    quantised = Plan(model).quantised(min_max(small_ranges(model, X)), {0, 1}, reduce_range=False)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(quantised.SerializeToString(), options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert operators.count("QLinearConv") == 2
    assert {"QLinearSigmoid", "QLinearMul"} <= set(operators)


def test_a_tiny_weight_with_a_large_bias_does_not_overflow():
    model = small_network()
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight).copy()
        if weight.name == "a.weight":
            values[0] *= 1e-9
        if weight.name == "a.bias":
            values[0] = 3.0
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    quantised = Plan(model).quantised(min_max(small_ranges(model, X)), {0}, reduce_range=False)
    stored = {w.name: numpy_helper.to_array(w) for w in quantised.graph.initializer}
    assert stored["node_a_bias_q"][0] * stored["node_a_bias_scales"][0] == pytest.approx(3.0, abs=1e-4)


def test_a_stack_of_matrices_stays_float():
    """onnxruntime 1.20 loads one with a scale for each column, and fails when it runs."""
    random = np.random.default_rng(0)
    weights = {"a.weight": (6, 6), "b.weight": (2, 6, 6), "c.weight": (6, 6)}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", [source, f"{name}.weight"], [name], name=f"node_{name}")
            for source, name in (("x", "a"), ("a", "b"), ("b", "c"))
        ],
        "stack",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4, 6])],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [2, 4, 6])],
        [
            numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    assert set(Plan(onnx.shape_inference.infer_shapes(model)).weights) == {"node_a"}


@pytest.mark.parametrize("layers", [(), (0,), (1,), (0, 1)])
def test_the_probe_is_the_quantised_graph(layers):
    model = small_network()
    plan, ranges = Plan(model), min_max(small_ranges(small_network(), X))
    probe = GraphRun(plan.probe(ranges))(["y"], {"x": X, SWITCHES: plan.switches(layers)})[0]
    real = GraphRun(plan.quantised(ranges, layers, reduce_range=False))(["y"], {"x": X})[0]
    # Integer kernels round sums elsewhere: by a step of 255 here and there.
    assert np.abs(probe - real).max() <= 0.02 * np.abs(real).max()
    if not layers:
        assert probe == pytest.approx(GraphRun(model)(["y"], {"x": X})[0], abs=1e-5)


def test_restored_weights_compute_the_same(graphs):
    for file, inputs in (
        (contract.TEXT_ENCODER_FILE, {contract.INPUT_IDS: np.full((2, 77), 49407, np.int64)}),
        (contract.GENERATOR_FILE, image_and_text()),
    ):
        output = graphs[file].graph.output[0].name
        restored = restore_floats(graphs[file])
        assert not restored.metadata_props
        stored = [w for w in restored.graph.initializer if w.data_type == TensorProto.FLOAT16]
        assert all(w.dims[-1] == 1 or w.name.endswith("embedding.weight") for w in stored)
        got, expected = (GraphRun(m)([output], inputs)[0] for m in (restored, graphs[file]))
        assert np.array_equal(got, expected)


def image_and_text(seed=0, prompts=2):
    vectors = np.random.default_rng(seed).normal(size=(1, prompts, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return {contract.IMAGE: samples.load("coffee")[None], contract.TEXT_EMBEDDING: vectors}


def test_half_keeps_both_ends_and_computes_about_the_same(graphs):
    restored = restore_floats(graphs[contract.GENERATOR_FILE])
    half = to_half(restored)
    kinds = [w.data_type for w in half.graph.initializer if np.prod(w.dims) > 64]
    assert kinds.count(TensorProto.FLOAT16) > 100
    producers = {name: node for node in half.graph.node for name in node.output}
    types = {value.name: value.type.tensor_type.elem_type for value in half.graph.value_info}
    resizes = [node for node in half.graph.node if node.op_type == "Resize"]
    assert resizes
    assert all(types[node.output[0]] == TensorProto.FLOAT for node in resizes)
    assert producers[contract.SALIENCY].op_type == "Exp"
    got, expected = (GraphRun(m)([contract.SALIENCY], image_and_text())[0] for m in (half, restored))
    assert got.dtype == np.float32
    assert 0 < np.abs(got - expected).max() < 0.02


def test_what_overflows_half_stays_float():
    model = small_network()
    half = to_half(model, large={"silu"})
    types = {value.name: value.type.tensor_type.elem_type for value in half.graph.value_info}
    assert (types["a"], types["silu"], types["pool"], types["b"]) == (
        TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.FLOAT16,
    )  # fmt: skip


def test_int8_text_encoder(graphs, tokenizer):
    restored = restore_floats(graphs[contract.TEXT_ENCODER_FILE])
    quantised = quantise_text_encoder(restored)
    tables = {w.name: w for w in quantised.graph.initializer}
    assert max(tables.values(), key=lambda w: np.prod(w.dims)).data_type == TensorProto.INT8
    ids = {contract.INPUT_IDS: tokenizer.batch(["a spoon", "two dogs on a red sofa", "a cup " * 60])}
    got, expected = (GraphRun(m)([contract.TEXT_EMBEDDING], ids)[0] for m in (quantised, restored))
    assert np.linalg.norm(got, axis=-1) == pytest.approx(1, abs=1e-5)
    assert 0.99 < (got * expected).sum(-1).min() < 1 - 1e-9


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_a_table_becomes_rows_of_bytes(kind):
    """Within half a step of each row, in float32 and, as CLIP's own is stored, float16."""
    table = (np.random.default_rng(0).normal(size=(300, 64)) * np.geomspace(1e-3, 10, 300)[:, None]).astype(
        kind
    )
    of = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["rows"], name="node_rows")], "look up",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("rows", of, ["n", 64])],
        [numpy_helper.from_array(table, "table")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    quantised = quantise_text_encoder(model)
    assert quantised.ByteSize() < (0.35 if kind == np.float32 else 0.65) * model.ByteSize()
    got = GraphRun(quantised)(["rows"], {"ids": np.arange(300)})[0]
    step = np.abs(table.astype(np.float32)).max(-1, keepdims=True) / 127
    assert (
        np.abs(got.astype(np.float32) - table.astype(np.float32)) <= 0.51 * step + 1e-3 * np.abs(table)
    ).all()


@pytest.mark.parametrize("kind", ["fp16", "int8", "mixed"])
@pytest.mark.usefixtures("shared_bench")
def test_variants_keep_the_contract(tmp_path, graphs, tokenizer, kind):
    made, report = apply_precision(graphs, kind, tokenizer, limits=ANY)
    assert report.passed
    assert report.precision == kind
    json.dumps(report.to_dict(), allow_nan=False)
    assert report.bytes[contract.TEXT_ENCODER_FILE] <= report.bytes_fp32[contract.TEXT_ENCODER_FILE] * 1.2
    for file, graph in made.items():
        onnx.checker.check_model(graph, full_check=True)
        assert {opset.domain: opset.version for opset in graph.opset_import}.get("", 0) == contract.OPSET
        (tmp_path / file).write_bytes(graph.SerializeToString())
    for file in FILES:
        session = GraphSession(tmp_path / file, Execution("cpu"))
        before = GraphRun(graphs[file])._session
        assert [(i.name, i.type, i.shape) for i in session._session.get_inputs()] == [
            (i.name, i.type, i.shape) for i in before.get_inputs()
        ]
        assert session._session.get_outputs()[0].type == "tensor(float)"
    generator = GraphSession(tmp_path / contract.GENERATOR_FILE, Execution("cpu"))
    for batch, prompts in ((1, 1), (2, 3)):
        images = np.repeat(samples.load("chelsea")[None], batch, axis=0)
        vectors = np.repeat(image_and_text(prompts=prompts)[contract.TEXT_EMBEDDING], batch, axis=0)
        maps = generator.run(contract.SALIENCY, {contract.IMAGE: images, contract.TEXT_EMBEDDING: vectors})
        assert maps.shape[:2] == (batch, prompts)
        assert maps.max() == pytest.approx(1, abs=1e-3)
        assert maps.min() >= 0


@pytest.mark.usefixtures("shared_bench")
def test_int8_search_names_layers_and_uses_integers(graphs, tokenizer):
    made, report = apply_precision(graphs, "int8", tokenizer, limits=ANY)
    assert len(report.layers_that_hurt) == 10
    losses = [cost.loss for cost in report.layers_that_hurt]
    assert losses == sorted(losses, reverse=True)
    assert report.in_float == ()
    assert report.weight_bits in (7, 8)
    kinds = [w.data_type for w in made[contract.GENERATOR_FILE].graph.initializer]
    assert kinds.count(TensorProto.INT8) > 100
    assert report.bytes[contract.GENERATOR_FILE] < 0.75 * report.bytes_fp32[contract.GENERATOR_FILE]


def test_a_refusal_has_figures_and_layers(graphs, tokenizer, shared_bench, monkeypatch):
    variant = shared_bench.make("int8")
    failed = replace(variant, gate=replace(variant.gate, limits=Limits(cc_drop=-1, guide_drop=-2)))
    monkeypatch.setattr(shared_bench, "make", lambda _kind: failed)
    with pytest.raises(PrecisionError) as caught:
        apply_precision(graphs, "int8", tokenizer)
    told = str(caught.value)
    assert isinstance(caught.value, ExportError)
    assert f"CC drops by {variant.gate.cc_drop:.4f} (at most -1)" in told
    assert "guide drops by" in told
    worst = variant.costs[0]
    assert f"layers that hurt (1 - CC of each alone): {worst.layer} ({worst.loss:.4f}), " in told
    assert "nothing was written" in told


def test_nothing_is_written_of_a_variant_that_fails(
    tmp_path, tiny_checkpoint, tiny_text_encoder, monkeypatch
):
    monkeypatch.setattr(precision, "Limits", lambda: Limits(cc_drop=-1))
    with pytest.raises(PrecisionError, match="fp16 loses too much"):
        export_bundle(tmp_path / "bundle", tiny_checkpoint, str(tiny_text_encoder), precision="fp16")
    assert list(tmp_path.iterdir()) == []


def test_layers_are_left_in_float_until_the_gate_is_passed(bench, monkeypatch):
    """The gate is met late: each step leaves more layers in float, the ones that hurt most."""
    counted = []

    def judged(graphs):
        kinds = [w.data_type for w in graphs[contract.GENERATOR_FILE].graph.initializer]
        counted.append(kinds.count(TensorProto.INT8))
        limits = ANY if len(counted) == 3 else Limits(cc_drop=-1)
        return GateResult(HUMAN, 1, 1, 0.8, 0.8, 0, None, None, 1.0, 0.0, 1.0, 1.0, limits)

    first = bench.make("int8")
    monkeypatch.setattr(bench, "_judged", judged)
    variant = Workbench.make(bench, "int8")
    assert variant.in_float == tuple(cost.layer for cost in first.costs[:2])
    assert counted == sorted(counted, reverse=True)
    assert len(set(counted)) == 3


def test_export_in_half_precision(tmp_path, tiny_checkpoint, tiny_text_encoder, tiny_bundle):
    bundle = export_bundle(
        tmp_path / "half", tiny_checkpoint, str(tiny_text_encoder), name="half", precision="fp16"
    )
    fp32 = Bundle.open(tiny_bundle)
    assert (bundle.manifest.precision, fp32.manifest.precision) == ("fp16", "fp32")
    assert bundle.manifest.bundle_id != fp32.manifest.bundle_id
    # Of the text encoder as it is without a signature: whichever generator it is signed with.
    bare = onnx.load(tmp_path / "half" / "text_encoder.onnx")
    del bare.metadata_props[:]
    made_of = (tmp_path / "half" / "tokenizer.json").read_bytes() + bare.SerializeToString(deterministic=True)
    assert bundle.manifest.text_id == hashlib.sha256(made_of).hexdigest()[:16] != fp32.manifest.text_id
    report = json.loads((tmp_path / "half" / "report.json").read_text(encoding="utf-8"))
    assert report["precision"]["gate"]["passed"] is True
    got, expected = (
        SaliencyPredictor.load(folder, device="cpu").predict(samples.load("coffee"), "a spoon").map
        for folder in (tmp_path / "half", tiny_bundle)
    )
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.999


def test_human_maps_judge_where_there_are_any(graphs, tokenizer, gaze_data):
    _, report = apply_precision(graphs, "mixed", tokenizer, data=gaze_data / "sjtu_tis", limits=ANY)
    assert report.gate.reference == HUMAN
    assert -1 < report.gate.cc_fp32 < 1
    assert abs(report.gate.cc_drop) < 0.05


def test_fp32_is_left_alone(graphs, tokenizer):
    same, report = apply_precision(graphs, "fp32", tokenizer)
    assert same is graphs
    assert report is None
    with pytest.raises(PrecisionError, match="'fp8' is unknown"):
        apply_precision(graphs, "fp8", tokenizer)


def row(name, generator, text=1.0, drop=0.0):
    gate = None
    if name != "fp32":
        gate = GateResult(HUMAN, 1, 1, 0.8, 0.8 - drop, 0, None, None, 1.0, 0.0, 1.0, 1.0, Limits())
    speed = {
        contract.GENERATOR_FILE: Speed(generator, generator),
        contract.TEXT_ENCODER_FILE: Speed(text, text),
    }
    return Measured(name, dict.fromkeys(FILES, 1000), speed, gate)


def test_auto_takes_the_fastest_that_passes_and_none_that_is_slower():
    fp32 = row("fp32", 1.0)
    assert fastest([fp32, row("fp16", 0.9), row("int8", 0.6)]) == "int8"
    assert fastest([fp32, row("fp16", 0.9), row("int8", 0.6, drop=0.02)]) == "fp16"
    assert fastest([fp32, row("fp16", 1.4), row("int8", 1.1)]) == "fp32"
    # Within the noise, or bought with a slower text encoder.
    assert fastest([fp32, row("fp16", 0.99), row("int8", 0.6, text=1.2)]) == "fp32"


@pytest.mark.usefixtures("shared_bench")
def test_auto_reports_what_it_compared(graphs, tokenizer, monkeypatch):
    times = {"fp32": 1.0, "fp16": 1.5, "int8": 1.2, "mixed": 0.5}

    def measured(_graphs, variants):
        return [row("fp32", 1.0)] + [row(v.precision, times[v.precision]) for v in variants]

    monkeypatch.setattr(precision, "_measured", measured)
    made, report = apply_precision(graphs, "auto", tokenizer, limits=ANY)
    assert (report.asked, report.precision) == ("auto", "mixed")
    assert [r.precision for r in report.compared] == ["fp32", "fp16", "int8", "mixed"]
    assert made[contract.GENERATOR_FILE] is not graphs[contract.GENERATOR_FILE]
    times["mixed"] = 2.0
    same, report = apply_precision(graphs, "auto", tokenizer, limits=ANY)
    assert same is graphs
    assert (report.precision, report.gate) == ("fp32", None)


@pytest.mark.usefixtures("shared_bench")
def test_table(graphs, tokenizer, monkeypatch):
    monkeypatch.setattr(precision, "_RUNS", 1)
    monkeypatch.setattr(precision, "_BLOCKS", 1)
    rows, reports = precision.compare_precisions(graphs, tokenizer)
    text = precision.render_table(rows, reports)
    assert [line.split()[0] for line in text.splitlines()[1:5]] == ["fp32", "fp16", "int8", "mixed"]
    assert all(r.speed[file].median_ms > 0 for r in rows for file in FILES)
    assert rows[0].speed[contract.GENERATOR_FILE].ratio == 1
    assert "auto would choose" in text
    told = json.loads(json.dumps(precision.table_to_dict(rows, reports), allow_nan=False))
    assert [r["precision"] for r in told["rows"]] == ["fp32", "fp16", "int8", "mixed"]
    assert {"fp16", "int8", "mixed"} == set(told["reports"])
    slow = [rows[0], rows[1], row("int8", 1.3), rows[3]]
    assert "int8 is slower than float here (1.30 of its time" in precision.render_table(slow, reports)


def test_names_on_the_command_line(run):
    code, _, errors = run("export", "--precision", "fp8")
    told = " ".join(errors.replace("│", " ").split())
    assert code == 2
    assert ", ".join(f"'{name}'" for name in precision.PRECISIONS) in told


@pytest.mark.slow
def test_the_released_generator_in_int8():
    """The sensitive layers are the first ones, and leaving some in float is enough."""
    from salgan_edge.bundle import default_bundle

    graphs = {file: onnx.load(default_bundle() / file) for file in FILES}
    made, report = apply_precision(graphs, "int8", ClipTokenizer(default_bundle() / "tokenizer.json"))
    assert report.gate.passed
    assert 0 < len(report.in_float) < report.layers / 2
    store_exactly(made[contract.GENERATOR_FILE])
    assert report.bytes[contract.GENERATOR_FILE] < 0.8 * report.bytes_fp32[contract.GENERATOR_FILE]
