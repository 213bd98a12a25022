"""Tools that need PyTorch: parts of the graph, the trade of accuracy and cost, the ablation, scores in checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch
from salgan_edge.train import released
from salgan_edge.train.checkpoint import load_generator
from salgan_edge.train.config import TrainConfig, changed

from salgan_edge.bundle import Bundle
from salgan_edge.devices import Execution
from salgan_edge.errors import InputError
from salgan_edge.session import GraphSession
from salgan_edge.timing import Ratio, Stats, random_photo, random_texts
from tools import ablation, annotate, trade
from tools.parts import PARTS, cut_graphs

# What each part of the generator takes


def test_cut_graphs_give_what_pytorch_has_there(onnx):
    """The released generator's features, classes and map, from the cut graphs and from its PyTorch modules."""
    assert tuple(cut_graphs(Bundle.open("default").read("generator.onnx"))) == PARTS
    graphs = cut_graphs(Bundle.open("small").read("generator.onnx"))
    assert tuple(graphs) == tuple(part for part in PARTS if part != "second backbone")
    nodes = [len(onnx.load_from_string(graph).graph.node) for graph in graphs.values()]
    assert nodes == sorted(set(nodes))
    model, _ = load_generator(released.GENERATORS["small"])
    photo = torch.from_numpy(random_photo(256))[None]
    text = torch.from_numpy(random_texts(1, 512))[None]
    with torch.inference_mode():
        neck, logits = model.backbone(model.preprocess(photo))
        expected = [*neck, *(torch.sigmoid(level) for level in logits)]
        saliency = model(photo, text)

    def outputs(part):
        session = GraphSession(graphs[part], Execution("cpu", 1))
        inputs = {"image": photo.numpy(), "text_embedding": text.numpy()}
        given = {name: inputs[name] for name in session.inputs}
        return [session.run(name, given) for name in session.outputs]

    for found, wanted in zip(outputs("classes"), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-4)
    np.testing.assert_allclose(outputs(PARTS[-1])[0], saliency, atol=1e-4)
    assert [found.shape[1] for found in outputs("trunk")] == [64, 80, 80, 80, 128]


def test_parts_of_another_network_are_refused(save_graph):
    file = save_graph("Relu", {"x": (1, [2])})
    with pytest.raises(InputError, match="no edge generator in float32"):
        cut_graphs(file.read_bytes())


def test_parts_command(tool, tiny_bundle, fake_neck):
    code, out, err = tool("parts", "--bundle", tiny_bundle, "--neck", fake_neck, "--runs", "1")
    assert code == 0, err
    lines = out.splitlines()
    parts = [part for part in PARTS if part != "second backbone"]  # the tiny one has none
    assert [line[:20].strip() for line in lines] == ["with", *parts]
    milliseconds = [float(line.split()[-7]) for line in lines[1:]]
    assert all(value > 0 for value in milliseconds)


# What accuracy costs


@pytest.mark.parametrize(
    ("spec", "name", "file", "size", "eyes"),
    [
        ("a.safetensors", "a.safetensors", "a.safetensors", None, None),
        ("runs/a b.safetensors@320", "runs/a b.safetensors@320", "runs/a b.safetensors", 320, None),
        ("wide, smaller view=a.safetensors@320@0.7", "wide, smaller view", "a.safetensors", 320, 0.7),
    ],
)
def test_candidates_of_a_trade(spec, name, file, size, eyes):
    assert trade.Candidate.parse(spec) == trade.Candidate(name, Path(file), size, eyes)


@pytest.mark.parametrize("spec", ["", "a@", "a@big", "a@320@", "a@320@0.7@1"])
def test_what_is_no_candidate(spec):
    with pytest.raises(ValueError, match="is no \\[NAME=\\]CHECKPOINT"):
        trade.Candidate.parse(spec)


def test_table_of_accuracy_and_cost():
    scores = {"all": 0.8, "noun": 0.25, "pure": 0.9}
    rows = [
        trade.Row("a", Stats.of([[2.0, 4.0]]), Ratio(1.5, 1.25, 2.0), 226_000_000, 3_300_000, scores),
        trade.Row("b", Stats.of([[9.0]]), Ratio(4.0, 4.0, 4.0), 735_000_000, 11_600_000, {"all": 0.5}),
    ]
    assert trade.to_markdown(rows).splitlines() == [
        "|  | necks | 95 % interval | ms | G multiplications | MB | all | noun |",
        "|---|---|---|---|---|---|---|---|",
        "| a | 1.50 | 1.25 to 2.00 | 3.00 | 0.226 | 3.3 | 0.800 | 0.250 |",
        "| b | 4.00 | 4.00 to 4.00 | 9.00 | 0.735 | 11.6 | 0.500 |  |",
    ]


def test_a_trade_needs_the_neck_first(tmp_path):
    pytest.importorskip("onnx")
    with pytest.raises(InputError, match="there is no file"):
        trade.measure_trade(
            [trade.Candidate("a", tmp_path / "a.safetensors")], tmp_path, neck=tmp_path / "no.onnx"
        )


# What each part of the system buys


def test_rows_differ_from_the_default_in_what_they_say():
    default = TrainConfig()
    for name, settings in ablation.ROWS.items():
        config = changed(default, **settings)
        assert (config == default) == (name == "default"), name
    assert len(ablation.ROWS) >= 8


def test_table_by_hand():
    row = dict.fromkeys(("all", "pure", "whole", "general", "salient", "nonsalient", "guide"), 0.5)
    assert ablation.table({"a": row, "b": {**row, "all": 0.1234, "noun": 0.75}}).splitlines() == [
        "| | all | pure | whole | general | salient | nonsalient | guide | noun |",
        "|---|---|---|---|---|---|---|---|---|",
        "| a | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 |  |",
        "| b | 0.123 | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 | 0.750 |",
    ]


def test_finished_rows_are_kept(tool, tmp_path, monkeypatch):
    trained = []

    def train(_sources, folder, config, **_options):
        trained.append(config)
        folder.mkdir(parents=True)
        scores = dict.fromkeys(("all", "pure", "whole", "general", "salient", "nonsalient", "guide"), 0.25)
        (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 3, "validation": scores}) + "\n")
        return {}

    monkeypatch.setattr(ablation, "train", train)
    arguments = ["--data", str(tmp_path), "--backbone", str(tmp_path), "--epochs", "3", "--only", "frozen"]
    arguments += ["--set", "object_target=box", "--only", "default", "--output", str(tmp_path / "out")]
    for _ in range(2):
        code, out, err = tool("ablation", *arguments)
        assert code == 0, err
        assert "| backbone frozen | 0.250 |" in out
    assert [config.backbone_rate for config in trained] == [TrainConfig().backbone_rate, 0.0]
    assert {(config.epochs, config.object_target) for config in trained} == {(3, "box")}


# Scores in checkpoints


def test_scores_are_written_into_a_checkpoint(tool, tiny_checkpoint, tmp_path, monkeypatch):
    scored, plain = tmp_path / "scored.safetensors", tmp_path / "plain.safetensors"
    summary = {"all": {"CC": 0.5}}
    monkeypatch.setattr(annotate.Evaluation, "summary", lambda raw: {raw["data"]: summary})
    (tmp_path / "scores.json").write_text(json.dumps({"data": "sjtu_tis test"}))
    code, _, err = tool("annotate", tiny_checkpoint, scored, tmp_path / "scores.json", "--half")
    assert code == 0, err
    model, description = load_generator(scored)
    assert description.metrics == {"sjtu_tis test": summary}
    before, _ = load_generator(tiny_checkpoint)
    for name, tensor in before.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor.half().to(tensor.dtype))
    # Without a file of scores, those that it has are kept.
    assert tool("annotate", scored, plain)[0] == 0
    assert load_generator(plain)[1].metrics == description.metrics
    assert tool("annotate", tmp_path / "none.safetensors", plain)[0] == 1
    (tmp_path / "scores.json").write_text("{")
    code, _, err = tool("annotate", tiny_checkpoint, plain, tmp_path / "scores.json")
    assert code == 1
    assert err.startswith("error: cannot read")
