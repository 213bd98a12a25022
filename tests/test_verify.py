"""`verify` and `inspect`: what a bundle is, and that whatever is wrong with one is found."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from salgan_edge import SaliencyPredictor, packing, session  # noqa: E402
from salgan_edge.bundle import BUNDLE_FILES, Bundle, default_bundle  # noqa: E402
from salgan_edge.devices import Execution, installed_packages  # noqa: E402
from salgan_edge.errors import BundleFormatError, BundleIntegrityError, DeviceError  # noqa: E402
from salgan_edge.session import GraphSession  # noqa: E402
from salgan_edge.tokenizer import ClipTokenizer  # noqa: E402
from salgan_edge.verify import golden as golden_module  # noqa: E402
from salgan_edge.verify.checks import read_opset  # noqa: E402
from salgan_edge.verify.golden import NO_TEXT, GoldenData, GoldenPair, closeness, tolerance_for  # noqa: E402
from salgan_edge.verify.inspection import inspect_bundle  # noqa: E402
from salgan_edge.verify.verify import verify_bundle  # noqa: E402

GRAPHS = ("text_encoder.onnx", "generator.onnx")
CPU = Execution("cpu", 1)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The embedded bundle with golden outputs and a report, whether it is shipped with them or not."""
    from salgan_edge.export.parity import Case
    from salgan_edge.export.report import write_receipt

    folder = tmp_path_factory.mktemp("good") / "bundle"
    shutil.copytree(default_bundle(), folder)
    raw = json.loads((folder / "bundle.json").read_text())
    raw["files"] = {name: raw["files"][name] for name in BUNDLE_FILES}
    for extra in ("golden.npz", "report.json", "report.md"):
        (folder / extra).unlink(missing_ok=True)
    (folder / "bundle.json").write_text(json.dumps(raw))
    manifest = write_receipt(
        folder, Bundle.open(folder).manifest, [Case("one", 1e-7, 1e-4)], ClipTokenizer(folder / "tokenizer.json"),
        command=["export", "--output", "bundle"],
    )  # fmt: skip
    (folder / "bundle.json").write_text(manifest.to_json(), encoding="utf-8")
    return folder


@pytest.fixture
def copy(good, tmp_path):
    shutil.copytree(good, tmp_path / "copy")
    return tmp_path / "copy"


def remake_hashes(folder, **changes):
    """What someone would do who wants a changed file to pass: the manifest says what lies there."""
    raw = {**json.loads((folder / "bundle.json").read_text()), **changes}
    for name in raw["files"]:
        data = (folder / name).read_bytes()
        raw["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "bundle.json").write_text(json.dumps(raw))


def change_graph(folder, name, change):
    model = onnx.load(folder / name)
    change(model)
    onnx.save(model, folder / name)


def scale_weight(part, factor):
    def change(model):
        (tensor,) = [t for t in model.graph.initializer if part in t.name and len(t.dims) > 1]
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array((values * factor).astype(values.dtype), tensor.name))

    return change


def last_weight(model):
    """The weights that are read last: the generator's head, the text encoder's projection."""
    names = {t.name for t in model.graph.initializer if len(t.dims) > 1 and t.data_type in (1, 10)}
    return next(i for node in reversed(model.graph.node) for i in reversed(node.input) if i in names)


def spoil(factor):
    def change(model):
        scale_weight(last_weight(model), factor)(model)

    return change


def shift(model):
    """One entry of every vector is another, which a factor for all of them would not show."""
    name = last_weight(model)
    (tensor,) = [t for t in model.graph.initializer if t.name == name]
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[:, 0] *= 1.5
    values[0] *= 1.5
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))


def metadata(**changes):
    def change(model):
        found = {entry.key: entry.value for entry in model.metadata_props}
        onnx.helper.set_model_props(model, {**found, **{f"salgan_edge.{k}": v for k, v in changes.items()}})

    return change


def change_vocabulary(folder, first, second):
    raw = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = raw["model"]["vocab"]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    for token in raw["added_tokens"]:
        token["id"] = vocabulary[token["content"]]
    (folder / "tokenizer.json").write_text(json.dumps(raw))


def unlist(folder, *names):
    """A bundle without some files, as an older version exported it."""
    raw = json.loads((folder / "bundle.json").read_text())
    for name in names:
        (folder / name).unlink()
        del raw["files"][name]
    (folder / "bundle.json").write_text(json.dumps(raw))


def states(report):
    return {check.name: check.status for check in report.checks}


def failed(report):
    return {name for name, status in states(report).items() if status not in ("ok", "absent")}


def detail(report, name):
    return next(check.detail for check in report.checks if check.name == name)


# A good bundle


def test_good_bundle_passes(good):
    report = verify_bundle(good, Execution("cpu", 1))
    assert report.passed
    assert states(report) == dict.fromkeys(
        [
            "manifest", *(f"file {name}" for name in (*BUNDLE_FILES, "golden.npz", "report.json", "report.md")),
            "contract of text_encoder.onnx", "tokenizer", "contract of generator.onnx", "golden tokens",
            "golden text vectors", "golden maps", "providers of text_encoder.onnx", "providers of generator.onnx",
        ],
        "ok",
    )  # fmt: skip
    figures = {check.name: check.figures for check in report.checks}
    assert figures["golden maps"]["maps"] == 8
    assert figures["golden maps"]["difference"] < 1e-5
    assert figures["golden maps"]["correlation"] > 0.9999999
    assert all(peak["golden"] == peak["found"] for peak in figures["golden maps"]["peaks"])
    assert (
        figures["file generator.onnx"]["sha256"]
        == hashlib.sha256((good / GRAPHS[1]).read_bytes()).hexdigest()
    )
    assert (report.device, report.bundle_id) == ("cpu", Bundle.open(good).manifest.bundle_id)


def test_needs_neither_torch_nor_onnx(good):
    """In a process where both cannot be imported; `inspect` does without onnxruntime too."""
    script = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('torch', 'onnx', 'transformers')))\n"
        "from pathlib import Path\n"
        "from salgan_edge.verify.inspection import inspect_bundle\n"
        f"place = Path({str(good)!r})\n"
        "assert not inspect_bundle(place).problems\n"
        "assert 'onnxruntime' not in sys.modules and 'numpy' not in sys.modules\n"
        "from salgan_edge.devices import Execution\n"
        "from salgan_edge.verify.verify import verify_bundle\n"
        "assert verify_bundle(place, Execution('cpu', 1)).passed\n"
        "assert 'onnxruntime' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_one_file_bundle(good, tmp_path):
    packing.pack(Bundle.open(good), tmp_path / "x.salgan")
    assert states(verify_bundle(tmp_path / "x.salgan", Execution("cpu", 1))) == states(
        verify_bundle(good, Execution("cpu", 1))
    )
    assert inspect_bundle(tmp_path / "x.salgan").files == inspect_bundle(good).files


def test_without_text_encoder(good, tmp_path):
    """What is not there is neither passed nor failed; the maps are checked with the stored vectors."""
    packing.pack(Bundle.open(good), tmp_path / "x.salgan", without_text_encoder=True)
    report = verify_bundle(tmp_path / "x.salgan", Execution("cpu", 1))
    absent = {check.name for check in report.checks if check.status == "absent"}
    assert absent == {
        "contract of text_encoder.onnx", "tokenizer", "golden tokens", "golden text vectors",
        "providers of text_encoder.onnx",
    }  # fmt: skip
    assert states(report)["golden maps"] == "ok"
    assert report.passed


def test_another_way_to_the_graph_is_found(good, monkeypatch):
    """Golden outputs prove what `predict` does to a photo before the graph, too."""
    assert states(verify_bundle(good, CPU))["golden maps"] == "ok"
    ways = {
        "coarser": lambda photo, height, width: cv2.resize(
            photo, (width, height), interpolation=cv2.INTER_NEAREST
        ),
        "left to the graph": lambda photo, *_: photo,
    }
    for way in ways.values():
        monkeypatch.setattr(golden_module, "fit", way)
        report = verify_bundle(good, CPU)
        assert states(report)["golden maps"] == "fail"
        assert not report.passed


def test_bundles_of_older_versions_were_proved_without(copy):
    """Their golden photos went to the graph as they were."""
    manifest = json.loads((copy / "bundle.json").read_text())
    data = GoldenData.from_bytes((copy / "golden.npz").read_bytes())
    graph = GraphSession(copy / "generator.onnx", Execution("cpu"))
    pairs = tuple(
        GoldenPair(
            pair.image,
            pair.prompts,
            graph.run("saliency", {"image": pair.image[None], "text_embedding": data.vectors(pair)[None]})[
                0, :, :: data.step, :: data.step
            ],
        )
        for pair in data.pairs
    )
    content = GoldenData(data.texts, data.ids, data.embeddings, data.step, pairs).to_bytes()
    (copy / "golden.npz").write_bytes(content)
    manifest["files"]["golden.npz"] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (copy / "bundle.json").write_text(json.dumps(manifest))
    assert states(verify_bundle(copy, CPU))["golden maps"] == "fail"
    del manifest["preparation"]
    (copy / "bundle.json").write_text(json.dumps(manifest))
    assert states(verify_bundle(copy, CPU))["golden maps"] == "ok"


def test_a_way_of_another_version_is_refused(copy):
    manifest = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**manifest, "preparation": "fit-9"}))
    check = next(check for check in verify_bundle(copy, CPU).checks if check.name == "golden maps")
    assert check.status == "fail"
    assert "prepared by fit-9" in check.detail
    with pytest.raises(BundleFormatError, match="pip install -U salgan-edge"):
        SaliencyPredictor.load(copy)


def test_older_bundle_without_golden_outputs(copy, run):
    unlist(copy, "golden.npz", "report.json", "report.md")
    code, out, _ = run("verify", copy, "--device", "cpu", "--threads", 1)
    assert code == 0
    golden = [line for line in out.splitlines() if "golden" in line]
    assert len(golden) == 3
    assert all(line.startswith("-- ") and line.endswith("not in this bundle") for line in golden)
    assert out.splitlines()[-1] == "passed: 9 checks passed, 3 not in this bundle"


# What is found


GENERATOR_CONTRACT, MAPS = "contract of generator.onnx", "golden maps"
FOUND = {
    "changed weight": (
        lambda folder: change_graph(folder, "generator.onnx", spoil(1.01)), {MAPS}, "the difference is too large",
    ),
    # The maps are made from the stored vectors, so that they tell of the generator alone.
    "changed text encoder": (
        lambda folder: change_graph(folder, "text_encoder.onnx", shift), {"golden text vectors"}, "too large",
    ),
    # The graphs of two exports of the same checkpoint do not mix.
    "graph of another bundle": (
        lambda folder: change_graph(folder, "generator.onnx", metadata(bundle_id="0123456789abcdef")),
        {GENERATOR_CONTRACT}, "bundle_id is 0123456789abcdef",
    ),
    "other graph in its place": (
        lambda folder: shutil.copy(folder / "text_encoder.onnx", folder / "generator.onnx"),
        {GENERATOR_CONTRACT, MAPS}, "inputs input_ids: image, text_embedding were expected",
    ),
    "another contract version": (
        lambda folder: change_graph(folder, "generator.onnx", metadata(contract_version="2")),
        {GENERATOR_CONTRACT}, "contract_version is 2, 1 was expected",
    ),
    "manifest of another contract version": (
        lambda folder: remake_hashes(folder, contract_version=2), {"manifest"}, "contract version 2",
    ),
    "changed tokenizer": (
        lambda folder: change_vocabulary(folder, "spoon</w>", "fork</w>"),
        {"golden tokens"}, "1 of 5 texts have other tokens, the first is 'a spoon'",
    ),
    # Found without golden outputs too: the text encoder does not read where the tokenizer ends.
    "tokenizer with another end": (
        lambda folder: (unlist(folder, "golden.npz"), change_vocabulary(folder, "<|endoftext|>", "zebra</w>")),
        {"tokenizer"}, "does not read its vector at the end token",
    ),
    "tokenizer that is none": (
        lambda folder: (folder / "tokenizer.json").write_text("{}"), {"tokenizer", "golden tokens"}, "",
    ),
    **{
        f"golden outputs that are {what}": (
            lambda folder, change=change: (folder / "golden.npz").write_bytes(change((folder / "golden.npz").read_bytes())),
            {"golden tokens", "golden text vectors", MAPS}, "golden.npz cannot be read",
        )
        for what, change in {"empty": lambda _: b"", "no zip": lambda _: b"no zip at all", "cut off": lambda data: data[:-100]}.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND)
def test_found_although_the_hashes_were_made_anew(case, copy):
    change, expected, told = FOUND[case]
    change(copy)
    remake_hashes(copy)
    report = verify_bundle(copy, Execution("cpu", 1))
    assert failed(report) == expected
    assert not report.passed
    assert any(told in detail(report, name) for name in expected)


def test_changed_file_hides_nothing(copy):
    change_graph(copy, "generator.onnx", spoil(1.01))
    (copy / "report.md").unlink()
    assert failed(verify_bundle(copy, Execution("cpu", 1))) == {
        "file generator.onnx",
        "file report.md",
        "golden maps",
    }


def test_missing_golden_outputs(copy):
    """Listed but not there, in contrast to an older bundle."""
    (copy / "golden.npz").unlink()
    report = verify_bundle(copy, Execution("cpu", 1))
    assert failed(report) == {
        "file golden.npz",
        "golden tokens",
        "golden text vectors",
        "golden maps",
    }
    assert not report.passed


def test_nan(copy, run):
    change_graph(copy, "generator.onnx", spoil(np.nan))
    remake_hashes(copy)
    code, out, _ = run("verify", copy, "--device", "cpu", "--json")
    assert code == 1
    (maps,) = [check for check in json.loads(out)["checks"] if check["name"] == "golden maps"]
    assert maps["status"] == "fail"
    assert "4096 of 4096 values are NaN or infinite" in maps["detail"]
    assert maps["figures"]["difference"] is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 300),
            "input image is uint8 (batch, 300, width, 3), uint8 (any, any, any, 3) was expected",
        ),
        (lambda model: setattr(model.opset_import[0], "version", 22), "opset 22, 18 to 21 was expected"),
        (
            lambda model: model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1)),
            "operators of com.microsoft: only those of ONNX itself were expected",
        ),
        (lambda model: model.metadata_props.pop(), "is missing"),
    ],
)
def test_graph_that_breaks_the_contract(copy, change, expected):
    change_graph(copy, "generator.onnx", change)
    remake_hashes(copy)
    report = verify_bundle(copy, Execution("cpu", 1))
    assert "contract of generator.onnx" in failed(report)
    assert expected in detail(report, "contract of generator.onnx")


def test_no_bundle(tmp_path, run):
    with pytest.raises(BundleFormatError, match="does not exist"):
        verify_bundle(tmp_path / "nothing")
    with pytest.raises(BundleFormatError, match=r"has no bundle\.json"):
        verify_bundle(tmp_path)
    (tmp_path / "cut.salgan").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(BundleIntegrityError, match="is cut off"):
        verify_bundle(tmp_path / "cut.salgan")
    for command in ("verify", "inspect"):
        code, out, err = run(command, tmp_path / "nothing")
        assert (code, out) == (1, "")
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1


@pytest.mark.skipif("onnxruntime-gpu" in installed_packages(), reason="a package with CUDA is installed")
def test_device_that_is_not_there(good, run):
    with pytest.raises(DeviceError, match="has no CUDA"):
        verify_bundle(good, Execution("cuda"))
    code, _, err = run("verify", good, "--device", "cuda")
    assert code == 1
    assert err.startswith("error: cuda was asked for")


def test_command(good, run):
    code, out, _ = run("verify", good, "--device", "cpu", "--threads", 1)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].endswith(f"bundle {Bundle.open(good).manifest.bundle_id}, fp32")
    assert sum(line.startswith("ok ") for line in lines) == 15
    assert lines[-1] == "passed: 15 checks passed"
    code, out, _ = run("verify", good, "--device", "cpu", "--json")
    assert code == 0
    assert json.loads(out)["passed"] is True


def test_command_on_a_changed_bundle(copy, run):
    (copy / "report.md").write_text("# Everything passed")
    code, out, _ = run("verify", copy, "--device", "cpu")
    assert code == 1
    assert "FAIL  file report.md" in out
    assert out.splitlines()[-1] == "FAILED: 14 checks passed, 1 failed"


def test_embedded_bundle_has_golden_outputs_and_passes():
    assert set(states(verify_bundle(None, Execution("cpu"))).values()) == {"ok"}


# Providers


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("source", ["assignment", "profile"])
def test_node_providers(name, source, monkeypatch, tmp_path):
    """Convolutions are neither folded nor taken apart, so both sources count as many as the file has."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if source == "profile":
        # An onnxruntime before 1.24.
        monkeypatch.setattr(session, "_ASSIGNMENT", "not_there")
    elif not hasattr(pytest.importorskip("onnxruntime").InferenceSession, session._ASSIGNMENT):
        pytest.skip("this onnxruntime keeps no record")
    inputs = {
        "generator.onnx": {
            "image": np.zeros((1, 9, 8, 3), np.uint8),
            "text_embedding": np.zeros((1, 1, 512), np.float32),
        },
        "text_encoder.onnx": {"input_ids": np.zeros((1, 77), np.int64)},
    }[name]
    graph = GraphSession(default_bundle() / name, Execution("cpu", 1), traced=True)
    # Runs before do not count twice.
    graph.run(next(iter(graph.outputs)), inputs)
    found = graph.node_providers(inputs)
    assert found.source == source
    types = [node.op_type for node in onnx.load(default_bundle() / name).graph.node]
    assert set(found.nodes) == {"CPUExecutionProvider"}
    assert 0.5 * len(types) < found.nodes["CPUExecutionProvider"] <= len(types)
    assert found.operators["CPUExecutionProvider"].get("Conv", 0) == types.count("Conv")
    assert sum(found.operators["CPUExecutionProvider"].values()) == found.nodes["CPUExecutionProvider"]
    assert list(tmp_path.iterdir()) == []


# Parts


def test_closeness():
    golden = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 4, 4)
    assert closeness(golden + np.float32(0.05), golden, 0.1, 0.9).problem == ""
    assert closeness(golden + np.float32(0.05), golden, 0.01, 0.9).problem == "the difference is too large"
    assert closeness(golden[:, ::-1].copy(), golden, 0.9, 0.9).problem == "the correlation is too small"
    assert "the shape is (1, 4, 3)" in closeness(golden[..., :3], golden, 2.0, 0).problem
    assert "1 of 16 values" in closeness(np.where(golden == 1, np.inf, golden), golden, 2.0, 0).problem
    found = closeness(golden * np.float32(0.5), golden, 1, 0)
    assert found.difference == pytest.approx(0.5)
    assert found.correlation == pytest.approx(1)
    # A map without contrast correlates with nothing; the difference still counts.
    flat = np.full((1, 4, 4), 0.5, np.float32)
    assert closeness(flat, flat, 1e-4, 0.999).problem == ""
    assert closeness(flat + np.float32(1e-3), flat, 1e-4, 0.999).problem == "the difference is too large"


def test_tolerances_grow_with_what_differs():
    exact, half, bytes_ = (tolerance_for(name, "cpu") for name in ("fp32", "fp16", "int8"))
    assert (exact.saliency, exact.embedding) == (1e-4, 1e-4)
    assert exact.saliency < half.saliency < bytes_.saliency
    assert exact.correlation > half.correlation > bytes_.correlation
    assert tolerance_for("fp32", "cuda").saliency > exact.saliency
    assert tolerance_for("something new", "cpu") == bytes_


def test_golden_file_keeps_everything(good):
    content = (good / "golden.npz").read_bytes()
    golden = GoldenData.from_bytes(content)
    assert golden.to_bytes() == content
    pair = golden.pairs[0]
    vectors = golden.vectors(pair)
    assert pair.prompts[0] == NO_TEXT
    assert not vectors[0].any()
    assert np.array_equal(vectors[1], golden.embeddings[pair.prompts[1]])


def test_golden_file_that_does_not_fit_together(good):
    golden = GoldenData.from_bytes((good / "golden.npz").read_bytes())
    pair = GoldenPair(golden.pairs[0].image, (99,), golden.pairs[0].saliency[:1])
    broken = GoldenData(golden.texts, golden.ids, golden.embeddings, 1, (pair,))
    with pytest.raises(BundleFormatError, match="do not fit together"):
        GoldenData.from_bytes(broken.to_bytes())


def test_opset_is_read_as_onnx_reads_it():
    for name in GRAPHS:
        assert read_opset((default_bundle() / name).read_bytes()) == {"ai.onnx": 18}
    graph = onnx.helper.make_graph([], "g", [], [])
    sets = [onnx.helper.make_opsetid("", 300), onnx.helper.make_opsetid("com.microsoft", 1)]
    data = onnx.helper.make_model(graph, opset_imports=sets, producer_name="x" * 500).SerializeToString()
    assert read_opset(data) == {"ai.onnx": 300, "com.microsoft": 1}
    for wrong in (b"", b"\xff" * 20, b"plain text", data[:-3], data[:40]):
        with pytest.raises((ValueError, UnicodeDecodeError)):
            read_opset(wrong)


# inspect


def test_inspect(good, run):
    code, out, _ = run("inspect", good, "--json")
    assert code == 0
    found = json.loads(out)
    manifest = json.loads((good / "bundle.json").read_text())
    files = manifest.pop("files")
    assert {key: found["manifest"][key] for key in manifest} == manifest
    assert {n: {"bytes": f["bytes"], "sha256": f["sha256"]} for n, f in found["files"].items()} == files
    assert found["report"]["command"] == "salgan-edge export --output bundle"
    model = onnx.load(good / "generator.onnx")
    assert found["graphs"]["generator.onnx"]["nodes"] == len(model.graph.node)
    assert found["whole"] is True
    code, out, _ = run("inspect", good)
    assert code == 0
    for expected in (
        manifest["bundle_id"],
        manifest["text_encoder"],
        "saliency float32 (B, N, 32, 32)",
        "Apache-2.0",
        "sjtu_tis",
        f"{files['golden.npz']['bytes']:,}",
        "made by       salgan-edge export --output bundle",
    ):
        assert expected in out


def test_inspect_a_damaged_bundle(copy, run):
    (copy / "generator.onnx").write_bytes(b"nothing")
    (copy / "tokenizer.json").unlink()
    (copy / "report.json").write_text("{}")
    code, out, err = run("inspect", copy)
    assert (code, err) == (1, "")
    wrong = [line for line in out.splitlines() if line.startswith("wrong: ")]
    assert [line.split(": ")[1] for line in wrong] == [
        "generator.onnx", "tokenizer.json", "report.json", "generator.onnx",
    ]  # fmt: skip
    assert json.loads((copy / "bundle.json").read_text())["bundle_id"] in out
    code, out, _ = run("inspect", copy, "--json")
    assert code == 1
    assert json.loads(out)["report"] is None


def test_inspect_without_a_manifest_that_can_be_read(copy, run):
    (copy / "bundle.json").write_text('{"format_version": 99, "contract_version": 1}')
    code, out, _ = run("inspect", copy)
    assert code == 1
    assert "wrong: the bundle has format version 99" in out
    assert any(line.startswith("generator.onnx") and "not verified" in line for line in out.splitlines())
    code, out, _ = run("verify", copy)
    assert code == 1
    assert "FAIL  manifest  the bundle has format version 99" in out


def test_inspect_a_manifest_of_another_make(copy, run):
    """Figures that are of another kind are left out, not stumbled over."""
    remake_hashes(copy, metrics={"x": 3, "y": {"all": 1}}, parity={"a": 1}, training={"data": {"a": 1}})
    code, out, _ = run("inspect", copy)
    assert code == 0
    assert "Apache-2.0" in out


def test_paths_are_not_needed(good, monkeypatch):
    """`verify_bundle()` alone is the embedded bundle, from whichever folder."""
    monkeypatch.chdir(good)
    assert Path(inspect_bundle().bundle) == default_bundle()
