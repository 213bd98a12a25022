"""The ablation command on a made-up folder: rows that train, a table, nothing done twice."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

import typer
from salgan_edge.train.config import TrainConfig, changed

from tools import ablation


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


def test_finished_rows_are_kept(tmp_path, monkeypatch):
    trained = []

    def train(_sources, folder, config, **_options):
        trained.append(config)
        folder.mkdir(parents=True)
        scores = dict.fromkeys(("all", "pure", "whole", "general", "salient", "nonsalient", "guide"), 0.25)
        (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 3, "validation": scores}) + "\n")
        return {}

    monkeypatch.setattr(ablation, "train", train)
    app = typer.Typer()
    app.command()(ablation.main)
    arguments = ["--data", str(tmp_path), "--backbone", str(tmp_path), "--epochs", "3", "--only", "frozen"]
    arguments += ["--set", "object_target=box", "--only", "default", "--output", str(tmp_path / "out")]
    for _ in range(2):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert "| backbone frozen | 0.250 |" in result.stdout
    assert [config.backbone_rate for config in trained] == [TrainConfig().backbone_rate, 0.0]
    assert {(config.epochs, config.object_target) for config in trained} == {(3, "box")}
