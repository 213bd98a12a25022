"""Exported graphs against PyTorch, and what happens when they differ."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from conftest import random_generator  # noqa: E402
from salgan_edge.export import convert, parity, write  # noqa: E402
from salgan_edge.export.write import export_bundle  # noqa: E402
from salgan_edge.train import released  # noqa: E402
from salgan_edge.train.checkpoint import Description, load_generator, save_generator  # noqa: E402
from salgan_edge.train.networks.text_encoder import (  # noqa: E402
    compact_text_encoder,
    round_rows_to_bytes,
    save_text_encoder,
)

from salgan_edge import SaliencyPredictor, cli, contract, samples  # noqa: E402
from salgan_edge.bundle import Bundle, default_bundle  # noqa: E402
from salgan_edge.devices import Execution  # noqa: E402
from salgan_edge.errors import CheckpointError, ExportError, OutputError, ParityError  # noqa: E402
from salgan_edge.session import GraphSession  # noqa: E402
from salgan_edge.tokenizer import ClipTokenizer  # noqa: E402
from salgan_edge.verification.verify import verify_bundle  # noqa: E402


def load_text_model(folder):
    from transformers import CLIPTextModelWithProjection

    return CLIPTextModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()


def test_default_bundle_is_the_released_checkpoint():
    """The shipped graphs against the shipped weights in PyTorch, on a photo and a prompt."""
    predictor = SaliencyPredictor.load(device="cpu")
    generator, description = load_generator(released.GENERATORS["default"])
    manifest = predictor.bundle.manifest
    assert (manifest.preset, manifest.training, manifest.metrics) == (
        description.preset, description.training, description.metrics,
    )  # fmt: skip
    tokenizer = ClipTokenizer(released.TEXT_ENCODER / "tokenizer.json")
    ids = torch.from_numpy(tokenizer.batch(["a spoon", "a cup of coffee on a table"]))
    with torch.inference_mode():
        expected = load_text_model(released.TEXT_ENCODER)(input_ids=ids).text_embeds
        expected = torch.nn.functional.normalize(expected, dim=-1)
    text = predictor.embed(["a spoon", "a cup of coffee on a table"])
    assert np.abs(text - expected.numpy()).max() <= parity.EMBEDDING_TOLERANCE
    photo = samples.load("coffee")
    session = GraphSession(default_bundle() / "generator.onnx", Execution("cpu"))
    got = session.run(contract.SALIENCY, {contract.IMAGE: photo[None], contract.TEXT_EMBEDDING: text[None]})
    with torch.inference_mode():
        maps = generator(torch.from_numpy(photo)[None], torch.from_numpy(text)[None])
    assert np.abs(got - maps.numpy()).max() <= parity.MAP_TOLERANCE


@pytest.mark.parametrize(("batch", "prompts"), [(1, 1), (2, 3), (5, 4), (1, 8), (3, 1)])
@pytest.mark.parametrize("shape", [(30, 50), (64, 64), (201, 97)])
def test_generator_graph(tiny_bundle, batch, prompts, shape):
    random = np.random.default_rng(batch)
    image = random.integers(0, 256, (batch, *shape, 3), np.uint8)
    text = random.normal(size=(batch, prompts, 512)).astype(np.float32)
    text[0, 0] = 0
    with torch.inference_mode():
        expected = random_generator()(torch.from_numpy(image), torch.from_numpy(text)).numpy()
    session = GraphSession(tiny_bundle / "generator.onnx", Execution("cpu"))
    got = session.run(contract.SALIENCY, {contract.IMAGE: image, contract.TEXT_EMBEDDING: text})
    assert got.shape == (batch, prompts, 8, 8)
    assert got.std() > 0.01
    assert np.abs(got - expected).max() < parity.MAP_TOLERANCE


@pytest.mark.parametrize("count", [1, 2, 7])
def test_text_encoder_graph(tiny_bundle, tiny_text_encoder, count):
    texts = ["a dog", "word " * 100, "x", "the white lamps on the wall", "🦒", "a", "two dogs"][:count]
    ids = ClipTokenizer(tiny_bundle / "tokenizer.json").batch(texts)
    with torch.inference_mode():
        expected = load_text_model(tiny_text_encoder)(input_ids=torch.from_numpy(ids)).text_embeds.numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    got = GraphSession(tiny_bundle / "text_encoder.onnx", Execution("cpu")).run(
        contract.TEXT_EMBEDDING, {contract.INPUT_IDS: ids}
    )
    assert np.abs(got - expected).max() < parity.EMBEDDING_TOLERANCE


def test_graphs_keep_the_contract(tiny_bundle):
    for folder in (tiny_bundle, default_bundle()):
        manifest = Bundle.open(folder).manifest
        for name in ("text_encoder.onnx", "generator.onnx"):
            model = onnx.load(folder / name)
            assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
            onnx.checker.check_model(model, full_check=True)
            properties = {p.key: p.value for p in model.metadata_props}
            assert properties[contract.META_BUNDLE_ID] == manifest.bundle_id
            assert properties[contract.META_CONTRACT] == "1"
            # No stack trace, hence no path of the exporting machine, came along.
            assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        generator = GraphSession(folder / "generator.onnx", Execution("cpu"))
        assert generator.inputs["image"] == ("tensor(uint8)", ("batch", "height", "width", 3))
        assert generator.inputs["text_embedding"] == ("tensor(float)", ("batch", "prompts", 512))
        text_encoder = GraphSession(folder / "text_encoder.onnx", Execution("cpu"))
        assert text_encoder.inputs["input_ids"] == ("tensor(int64)", ("prompts", 77))
        assert text_encoder.outputs["text_embedding"][1][-1] == 512


def small_graph(operator, weight, inputs):
    """One operator that reads `weight`, as a model."""
    kinds = {"Gather": 7, "MatMul": 1}
    names = ["w", "x"] if operator == "Gather" else ["x", "w"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, names, ["o"], name="n")], "g",
        [onnx.helper.make_tensor_value_info("x", kinds[operator], inputs)],
        [onnx.helper.make_tensor_value_info("o", 1, None)],
        [onnx.numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


def stored(model):
    return {
        t.name: (onnx.TensorProto.DataType.Name(t.data_type), tuple(t.dims)) for t in model.graph.initializer
    }


@pytest.mark.parametrize(
    ("operator", "kind", "expected"),
    [
        ("Gather", "bytes", {"w": ("INT8", (3000, 16)), "w_factors": ("FLOAT16", (3000, 1))}),
        ("Gather", "halves", {"w": ("FLOAT16", (3000, 16))}),
        ("Gather", "floats", {"w": ("FLOAT", (3000, 16))}),
        ("MatMul", "bytes", {"w_half": ("FLOAT16", (3000, 16))}),
        ("MatMul", "halves", {"w_half": ("FLOAT16", (3000, 16))}),
        ("MatMul", "floats", {"w": ("FLOAT", (3000, 16))}),
    ],
)
def test_weights_are_stored_exactly(operator, kind, expected, tmp_path):
    """In as few bits as hold the values; the results are the same to the last bit."""
    random = np.random.default_rng(0)
    weight = torch.from_numpy(random.normal(size=(3000, 16)).astype(np.float32) * 0.1)
    weight[7] = 0
    if kind == "bytes":
        round_rows_to_bytes(weight)
    weight = (weight if kind == "floats" else weight.half().float()).numpy()
    if operator == "Gather":
        inputs = random.integers(0, 3000, (2, 5))
        inputs[0, 0] = 7
    else:
        inputs = random.normal(size=(2, 3000)).astype(np.float32)
    model = small_graph(operator, weight, inputs.shape)
    onnx.save(model, tmp_path / "before.onnx")
    convert.store_exactly(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "after.onnx")
    assert stored(model) == expected
    before, after = (
        GraphSession(tmp_path / f"{name}.onnx", Execution("cpu")).run("o", {"x": inputs})
        for name in ("before", "after")
    )
    assert np.array_equal(before, after)


def test_token_table_takes_a_byte_per_weight(tiny_bundle):
    vocabulary, width = 49408, 8
    model = onnx.load(tiny_bundle / "text_encoder.onnx")
    assert ("INT8", (vocabulary, width)) in stored(model).values()
    # Beside the table and its factors there are two layers of 8 channels, the output and the graph.
    assert (tiny_bundle / "text_encoder.onnx").stat().st_size < vocabulary * (width + 2) + 150_000


def test_manifest_reports_parity(tiny_bundle):
    cases = Bundle.open(tiny_bundle).manifest.parity
    assert len(cases) == 16
    assert all(case["difference"] <= case["tolerance"] for case in cases.values())


def test_predictor_runs_the_exported_bundle(tiny_bundle):
    result = SaliencyPredictor.load(tiny_bundle).predict(samples.path("coffee"), ["a spoon", None])
    assert not np.array_equal(result[0].map, result[1].map)


def test_same_checkpoint_same_bundle(tiny_bundle, tiny_checkpoint, tiny_text_encoder, tmp_path):
    shutil.copytree(tiny_bundle, tmp_path / "again")
    again = export_bundle(tmp_path / "again", tiny_checkpoint, str(tiny_text_encoder), name="renamed")
    assert again.manifest.bundle_id == Bundle.open(tiny_bundle).manifest.bundle_id
    # The older bundle was replaced.
    assert Bundle.open(tmp_path / "again").manifest.name == "renamed"
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


# Failures: a clear error, and nothing is left behind


@pytest.fixture
def exported(tiny_bundle, monkeypatch):
    """The exporter gives back the graphs of `tiny_bundle`: half a minute less per test."""

    def known(_module, _example, inputs, *_rest):
        return onnx.load(
            tiny_bundle / ("generator.onnx" if contract.IMAGE in inputs else "text_encoder.onnx")
        )

    monkeypatch.setattr(write, "convert", known)
    return known


def test_parity_miss_leaves_no_bundle(exported, tiny_checkpoint, tiny_text_encoder, tmp_path, monkeypatch):
    """The generator's graph is spoiled after the export, as a wrong operator would."""

    def spoiled(*arguments):
        model = exported(*arguments)
        for tensor in model.graph.initializer:
            if tensor.name.endswith("head.depthwise.weight"):
                values = 1.1 * onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return model

    monkeypatch.setattr(write, "convert", spoiled)
    with pytest.raises(ParityError, match=r"disagree in \d+ of 12 cases: generator, 1 photos.*at most 1e-04"):
        export_bundle(tmp_path / "bundle", tiny_checkpoint, str(tiny_text_encoder))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("exported")
def test_failed_export_keeps_the_older_bundle(
    tiny_bundle, tiny_checkpoint, tiny_text_encoder, tmp_path, monkeypatch
):
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    monkeypatch.setattr(parity, "MAP_TOLERANCE", -1.0)
    with pytest.raises(ParityError):
        export_bundle(tmp_path / "bundle", tiny_checkpoint, str(tiny_text_encoder))
    assert Bundle.open(tmp_path / "bundle").manifest == Bundle.open(tiny_bundle).manifest
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_fixed_dimension_is_an_error():
    class Fixed(torch.nn.Module):
        def forward(self, x):
            return x + torch.zeros(2, 3)

    with pytest.raises(ExportError, match="axis 0 of x was fixed by the exporter"):
        convert.convert(Fixed(), (torch.zeros(2, 3),), ["x"], "y", ({0: torch.export.Dim("batch")},))


def test_encoder_of_another_dimension(tiny_checkpoint, tmp_path):
    save_text_encoder(compact_text_encoder(8, 1, 2, dimension=768), tmp_path / "wide")
    with pytest.raises(ExportError, match="length 768, the generator reads 512"):
        export_bundle(tmp_path / "bundle", tiny_checkpoint, str(tmp_path / "wide"))
    assert [path.name for path in tmp_path.iterdir()] == ["wide"]


def test_model_that_is_no_clip(tiny_checkpoint, tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ExportError, match="is a bert model: a CLIP text model"):
        export_bundle(tmp_path / "bundle", tiny_checkpoint, str(tmp_path / "bert"))


def test_encoder_that_cannot_be_had(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        ExportError, match=r"cannot load the text encoder .*Offline, pass the path of a local folder"
    ):
        export_bundle(tmp_path / "bundle", tiny_checkpoint, str(tmp_path / "nothing"))


def test_encoder_without_tokenizer(tiny_checkpoint, tiny_text_encoder, tmp_path):
    shutil.copytree(tiny_text_encoder, tmp_path / "bare")
    (tmp_path / "bare" / "tokenizer.json").unlink()
    with pytest.raises(ExportError, match="tokenizer"):
        export_bundle(tmp_path / "bundle", tiny_checkpoint, str(tmp_path / "bare"))
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]


def test_tokenizer_from_vocabulary_files(tmp_path, tiny_text_encoder):
    """Older checkpoints have vocab.json and merges.txt in place of tokenizer.json."""
    from salgan_edge.train.networks.text_encoder import write_tokenizer

    model = json.loads((tiny_text_encoder / "tokenizer.json").read_text())["model"]
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in model["merges"])
    )
    shutil.copy(tiny_text_encoder / "config.json", folder)
    write_tokenizer(str(folder), tmp_path / "tokenizer.json", load_text_model(tiny_text_encoder))
    old, new = ClipTokenizer(tmp_path / "tokenizer.json"), ClipTokenizer(tiny_text_encoder / "tokenizer.json")
    for text in ("a photo of a cat", "naïve 42 dogs'"):
        assert old.encode(text) == new.encode(text)


def test_bad_checkpoints(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        load_generator(tmp_path / "no.safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_generator(tmp_path / "a.safetensors")
    (tmp_path / "a.pt").write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_generator(tmp_path / "a.pt")
    save_generator(torch.nn.Linear(2, 2), Description("edge", {"size": 64}), tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match="does not fit preset edge"):
        load_generator(tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match="size 100 does not fit preset edge: a multiple of 32"):
        load_generator(tmp_path / "b.safetensors", size=100)
    save_generator(torch.nn.Linear(2, 2), Description("other"), tmp_path / "c.safetensors")
    with pytest.raises(CheckpointError, match="'other' is unknown"):
        load_generator(tmp_path / "c.safetensors")
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "d.safetensors")
    with pytest.raises(CheckpointError, match="its description is missing"):
        load_generator(tmp_path / "d.safetensors")


def test_checkpoint_at_another_size(tiny_checkpoint):
    small, _ = load_generator(tiny_checkpoint)
    large, description = load_generator(tiny_checkpoint, size=128)
    assert (small.grid, large.grid, description.arguments["size"]) == (8, 16, 128)
    assert all(torch.equal(tensor, large.state_dict()[name]) for name, tensor in small.state_dict().items())


def test_output_that_is_something_else(tmp_path, tiny_checkpoint):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("x")
    with pytest.raises(OutputError, match=r"holds other files \(a\.jpg\)"):
        export_bundle(tmp_path / "photos", tiny_checkpoint)
    with pytest.raises(OutputError, match="is a file"):
        export_bundle(tmp_path / "photos" / "a.jpg", tiny_checkpoint)
    with pytest.raises(OutputError, match="cannot write"):
        export_bundle(tmp_path / "photos" / "a.jpg" / "bundle", tiny_checkpoint)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.jpg"]


@pytest.mark.usefixtures("exported")
def test_command(tiny_checkpoint, tiny_text_encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["export", "--checkpoint", str(tiny_checkpoint), "--text-encoder", str(tiny_text_encoder)]
    monkeypatch.setattr(sys, "argv", ["salgan-edge", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    assert f"bundle: bundle {Bundle.open(tmp_path / 'bundle').manifest.bundle_id}" in capsys.readouterr().out


@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize("options", [["--pack"], ["--pack", "-o", "bundle.salgan"], ["-o", "bundle.salgan"]])
def test_command_writes_one_file(
    tiny_bundle, tiny_checkpoint, tiny_text_encoder, tmp_path, monkeypatch, capsys, options
):
    monkeypatch.chdir(tmp_path)
    arguments = [
        "export",
        "--checkpoint",
        str(tiny_checkpoint),
        "--text-encoder",
        str(tiny_text_encoder),
        *options,
    ]
    monkeypatch.setattr(sys, "argv", ["salgan-edge", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("bundle.salgan: bundle ")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle.salgan"]
    bundle = Bundle.open(tmp_path / "bundle.salgan")
    assert set(bundle.manifest.files) == set(Bundle.open(tiny_bundle).manifest.files)
    command = json.loads(bundle.read("report.json"))["command"]
    assert (
        command
        == f"salgan-edge export --checkpoint generator.safetensors --text-encoder {tiny_text_encoder.name} {' '.join(options)}"
    )


def test_one_file_that_is_something_else(tiny_checkpoint, tmp_path):
    (tmp_path / "x.salgan").write_text("a letter")
    with pytest.raises(OutputError, match="is no bundle that may be replaced"):
        export_bundle(tmp_path / "x.salgan", tiny_checkpoint)
    assert (tmp_path / "x.salgan").read_text() == "a letter"


def test_export_leaves_a_receipt(tiny_bundle):
    """What `verify` finds of a real export; details are in test_verify.py and test_report.py."""
    report = verify_bundle(tiny_bundle, Execution("cpu", 1))
    assert {check.status for check in report.checks} == {"ok"}
    receipt = json.loads((tiny_bundle / "report.json").read_text())
    manifest = Bundle.open(tiny_bundle).manifest
    assert {
        c["name"]: {"difference": c["difference"], "tolerance": c["tolerance"]} for c in receipt["parity"]
    } == manifest.parity
    assert receipt["command"] is None
    assert receipt["passed"] is True


@pytest.mark.slow
def test_command_without_options(tmp_path, monkeypatch):
    """`salgan-edge export` alone makes the embedded bundle again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["salgan-edge", "export"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    got, shipped = Bundle.open(tmp_path / "bundle").manifest, Bundle.open(default_bundle()).manifest
    assert got.created_with != shipped.created_with or got.bundle_id == shipped.bundle_id
    assert got.training == shipped.training
