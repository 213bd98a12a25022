"""The receipt of an export: figures that can be counted again, and nothing of the exporting machine."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")

from salgan_edge.export.facts import count_macs, read_facts  # noqa: E402
from salgan_edge.export.parity import Case, make_golden  # noqa: E402
from salgan_edge.export.report import render_markdown, shell_line, write_receipt  # noqa: E402

from salgan_edge.bundle import BUNDLE_FILES, Bundle, default_bundle  # noqa: E402
from salgan_edge.devices import Execution  # noqa: E402
from salgan_edge.resample import fit  # noqa: E402
from salgan_edge.session import GraphSession  # noqa: E402
from salgan_edge.tokenizer import ClipTokenizer  # noqa: E402
from salgan_edge.verify.golden import GoldenData  # noqa: E402

CASES = [Case("text encoder, 1 prompt", 2e-7, 1e-5), Case("generator, 1 photos", 6e-5, 1e-4)]
GATE = {
    "kind": "int8",
    "passed": True,
    "generator": {
        "cc_fp32": 0.75312,
        "cc": 0.7491,
        "cc_drop": 0.004,
        "limits": {"cc_drop": 0.01},
        "failures": [],
    },
    "layers": [{"name": "head", "why": "sensitive"}, {"name": "stem|1", "why": "cheap"}],
}


def make(folder, precision=None, cases=CASES, command=("export",)):
    folder.mkdir()
    for name in BUNDLE_FILES:
        shutil.copy(default_bundle() / name, folder)
    manifest = Bundle.open(default_bundle()).manifest
    manifest = replace(
        manifest, files={name: manifest.files[name] for name in BUNDLE_FILES},
        precision="fp32" if precision is None else "int8",
    )  # fmt: skip
    return write_receipt(
        folder,
        manifest,
        cases,
        ClipTokenizer(folder / "tokenizer.json"),
        command=command,
        precision=precision,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("receipt") / "bundle"
    manifest = make(folder, command=["export", "--checkpoint", str(folder / "x.safetensors"), "-o", "../b"])
    return folder, manifest


@pytest.fixture(scope="module")
def report(made):
    return json.loads((made[0] / "report.json").read_text(encoding="utf-8"))


def test_manifest_lists_the_three_files(made):
    folder, manifest = made
    assert set(manifest.files) == {*BUNDLE_FILES, "golden.npz", "report.json", "report.md"}
    for name, record in manifest.files.items():
        data = (folder / name).read_bytes()
        assert (record.sha256, record.bytes) == (hashlib.sha256(data).hexdigest(), len(data))


def test_report_vouches_for_all_but_itself(made, report):
    folder, manifest = made
    assert set(report["files"]) == {*BUNDLE_FILES, "golden.npz"}
    for name, record in report["files"].items():
        assert record["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    text = (folder / "report.json").read_text() + (folder / "report.md").read_text()
    assert manifest.files["report.json"].sha256 not in text


@pytest.mark.parametrize("name", ["text_encoder.onnx", "generator.onnx"])
def test_graph_figures_can_be_counted_again(made, report, name):
    folder, _ = made
    facts = report["graphs"][name]
    model = onnx.load(folder / name)
    assert facts["operators"] == Counter(node.op_type for node in model.graph.node)
    assert facts["nodes"] == len(model.graph.node)
    assert facts["parameters"] == sum(prod(table.dims) for table in model.graph.initializer)
    assert facts["macs"] == count_macs(folder / name) > 1e7
    assert facts["opset"] == {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    # As onnxruntime, another reader, sees them.
    session = GraphSession(folder / name, Execution("cpu"))
    kinds = {"uint8": "tensor(uint8)", "float32": "tensor(float)", "int64": "tensor(int64)"}
    for found, expected in ((facts["inputs"], session.inputs), (facts["outputs"], session.outputs)):
        assert {t["name"]: (kinds[t["dtype"]], tuple(t["shape"])) for t in found} == expected


def test_report_has_the_rest(report):
    assert report["passed"] is True
    assert report["parity"] == [
        {"name": c.name, "difference": c.difference, "tolerance": c.tolerance} for c in CASES
    ]
    assert report["precision"] is None
    assert report["metrics"] == Bundle.open(default_bundle()).manifest.metrics
    assert {"salgan-edge", "torch", "onnx", "numpy", "python", "machine"} <= set(report["versions"])
    assert report["command"] == "salgan-edge export --checkpoint x.safetensors -o b"


def test_nothing_of_the_exporting_machine(made):
    """No folder of it, in whichever of the files."""
    folder, _ = made
    for name in ("golden.npz", "report.json", "report.md"):
        data = (folder / name).read_bytes()
        for place in (folder.parent, Path.home(), Path(__file__).parent.parent):
            assert str(place).encode() not in data.replace(b"\\\\", b"\\")


def test_same_graphs_same_receipt(made, tmp_path):
    folder, manifest = made
    again = make(
        tmp_path / "again", command=["export", "--checkpoint", str(folder / "x.safetensors"), "-o", "../b"]
    )
    assert again == manifest


def test_page_for_people(made, report):
    text = (made[0] / "report.md").read_text(encoding="utf-8")
    opening = text.split("## ")[0]
    assert text.startswith("# clip-salgan-edge\n")
    assert f"`{report['bundle']['bundle_id']}`" in opening
    assert "**All 2 comparisons of PyTorch and ONNX Runtime passed**" in opening
    assert "“generator, 1 photos” with 6.0e-05 of 1e-04" in opening
    for record in report["files"].values():
        assert f"| {record['bytes']:,} | `{record['sha256']}` |" in text
    assert "salgan-edge export --checkpoint x.safetensors -o b" in text
    for facts in report["graphs"].values():
        assert (
            f"| {facts['nodes']:,} | {facts['parameters'] / 1e6:.2f} M | {facts['macs'] / 1e9:.3f} G |"
            in text
        )
    scores = report["metrics"]["sjtu_tis test"]
    assert f"| {scores['all']['CC']:.4g} |" in text


def cells(line):
    return len(re.split(r"(?<!\\)\|", line)) - 2


@pytest.mark.parametrize("precision", [None, GATE])
def test_tables_are_whole(report, precision):
    """Every row of a table has as many cells as its head."""
    text = render_markdown({**report, "precision": precision})
    width = None
    rows = 0
    for line in text.splitlines():
        if not line.startswith("|"):
            width = None
            continue
        width = width or cells(line)
        assert cells(line) == width, line
        rows += 1
    assert rows > 40


def test_figures_of_a_reduced_precision(tmp_path):
    make(tmp_path / "bundle", precision=GATE)
    report = json.loads((tmp_path / "bundle" / "report.json").read_text())
    assert report["precision"] == GATE
    text = (tmp_path / "bundle" / "report.md").read_text(encoding="utf-8")
    assert "and int8 keeps within its limits**" in text.split("## ")[0]
    section = text.split("## What int8 changes")[1].split("\n## ")[0]
    for expected in (
        "| cc fp32 | 0.7531 |  |",
        "| cc drop | 0.004 | 0.01 |",
        "| head | sensitive |",
        "| stem\\|1 | cheap |",
    ):
        assert expected in section


def test_report_of_a_miss_says_so(report):
    """It is never written, since the export fails first; were it, it would not claim success."""
    missed = [{"name": "one", "difference": 1.0, "tolerance": 1e-4}, *report["parity"]]
    assert "**1 of 3 comparisons of PyTorch and ONNX Runtime FAILED**" in render_markdown(
        {**report, "parity": missed}
    )
    failed = {**report, "precision": {**GATE, "passed": False}}
    assert "MISSES its limits" in render_markdown(failed)


def test_miss_is_in_the_json(tmp_path):
    make(tmp_path / "parity", cases=[Case("one", 1.0, 1e-4)])
    assert json.loads((tmp_path / "parity" / "report.json").read_text())["passed"] is False
    make(tmp_path / "gate", precision={"passed": False})
    assert json.loads((tmp_path / "gate" / "report.json").read_text())["passed"] is False


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["export"], "salgan-edge export"),
        (["export", "-o", "runs/b"], "salgan-edge export -o runs/b"),
        (["export", "-o", "/home/me/runs/b"], "salgan-edge export -o b"),
        (["export", "--output=/home/me/b", "-o/home/me/c"], "salgan-edge export --output=b -oc"),
        (["export", "--checkpoint", "../x/y.pt"], "salgan-edge export --checkpoint y.pt"),
        (["export", "--checkpoint", "a/../../y.pt"], "salgan-edge export --checkpoint y.pt"),
        (["export", "--checkpoint", "a/../y.pt"], "salgan-edge export --checkpoint a/../y.pt"),
        (["export", "-o", ".."], "salgan-edge export -o ."),
        (["export", "--text-encoder", "openai/clip"], "salgan-edge export --text-encoder openai/clip"),
        (["export", "--name", "two words; rm"], "salgan-edge export --name 'two words; rm'"),
    ],
)  # fmt: skip
def test_command_line(arguments, expected):
    assert shell_line(arguments) == expected


# Golden outputs


def test_golden_outputs_are_small_and_varied(made):
    data = (made[0] / "golden.npz").read_bytes()
    assert len(data) < 250_000
    golden = GoldenData.from_bytes(data)
    shapes = [pair.image.shape[:2] for pair in golden.pairs]
    assert any(h > w for h, w in shapes)
    assert any(h < w for h, w in shapes)
    small, (large,) = [shape for shape in shapes if max(shape) < 256], [s for s in shapes if max(s) >= 256]
    assert all(side % 2 for shape in small for side in shape)
    # Averaged and enlarged before the graph, both.
    assert fit(np.zeros((*large, 3), np.uint8), 256, 256).shape == (256, 256, 3)
    assert sorted({len(pair.prompts) for pair in golden.pairs}) == [1, 2, 4]
    # Maps of a text and of none differ, as do those of two texts: nothing here would pass for another.
    maps = golden.pairs[0].saliency
    assert all(np.abs(maps[a] - maps[b]).max() > 0.01 for a in range(4) for b in range(a))
    # One text fills all 77 places.
    end = golden.ids[0, -1]
    assert (golden.ids[:, -2] != end).any()


def test_golden_outputs_of_a_large_grid(made, tmp_path):
    """Of a map of 256x256, such as the paper's generator gives, every fourth row and column is kept."""
    folder, _ = made
    table = np.random.default_rng(0).normal(size=(1, 1, 256, 256)).astype(np.float32)
    tensor, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [
            node("ReduceSum", ["text_embedding", "last"], ["mean"]),
            node("Unsqueeze", ["mean", "last"], ["each"]),
            node("Add", ["each", "table"], ["sum"]),
            node("Sigmoid", ["sum"], ["saliency"]),
        ],
        "g",
        [tensor("image", 2, ["b", "h", "w", 3]), tensor("text_embedding", 1, ["b", "n", 512])],
        [tensor("saliency", 1, ["b", "n", 256, 256])],
        [onnx.numpy_helper.from_array(table, "table"), onnx.numpy_helper.from_array(np.array([2]), "last")],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "large.onnx")
    golden = make_golden(
        tmp_path / "large.onnx",
        folder / "text_encoder.onnx",
        ClipTokenizer(folder / "tokenizer.json"),
        (64, 64),
    )
    assert golden.step == 4
    free = golden.pairs[0].saliency[0]
    assert np.abs(free - 1 / (1 + np.exp(-table[0, 0, ::4, ::4]))).max() < 1e-6
    assert len(golden.to_bytes()) < 350_000


# Facts


def test_operators_outside_the_standard_are_named_so(tmp_path):
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Relu", ["x"], ["a"]),
            onnx.helper.make_node("FusedThing", ["a"], ["y"], domain="com.example"),
        ],
        "g", [value("x", 1, ["n", 3])], [value("y", 1, ["n", 3])],
    )  # fmt: skip
    sets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("com.example", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=sets), tmp_path / "x.onnx")
    facts = read_facts(tmp_path / "x.onnx")
    assert facts.operators == {"Relu": 1, "com.example::FusedThing": 1}
    assert facts.opset == {"ai.onnx": 18, "com.example": 1}
    assert [(t.name, t.dtype, t.shape) for t in facts.inputs] == [("x", "float32", ("n", 3))]
