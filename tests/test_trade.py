"""The table of accuracy and cost: its rows' names, its cells, what it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from salgan_edge.errors import InputError
from salgan_edge.timing import Ratio, Stats
from tools.trade import Candidate, Row, measure_trade, to_markdown


@pytest.mark.parametrize(
    ("spec", "name", "file", "size", "eyes"),
    [
        ("a.safetensors", "a.safetensors", "a.safetensors", None, None),
        ("runs/a b.safetensors@320", "runs/a b.safetensors@320", "runs/a b.safetensors", 320, None),
        ("wide, smaller view=a.safetensors@320@0.7", "wide, smaller view", "a.safetensors", 320, 0.7),
    ],
)
def test_candidates(spec, name, file, size, eyes):
    assert Candidate.parse(spec) == Candidate(name, Path(file), size, eyes)


@pytest.mark.parametrize("spec", ["", "a@", "a@big", "a@320@", "a@320@0.7@1"])
def test_what_is_no_candidate(spec):
    with pytest.raises(ValueError, match="is no \\[NAME=\\]CHECKPOINT"):
        Candidate.parse(spec)


def test_table_of_accuracy_and_cost():
    scores = {"all": 0.8, "noun": 0.25, "pure": 0.9}
    rows = [
        Row("a", Stats.of([[2.0, 4.0]]), Ratio(1.5, 1.25, 2.0), 226_000_000, 3_300_000, scores),
        Row("b", Stats.of([[9.0]]), Ratio(4.0, 4.0, 4.0), 735_000_000, 11_600_000, {"all": 0.5}),
    ]
    assert to_markdown(rows).splitlines() == [
        "|  | necks | 95 % interval | ms | G multiplications | MB | all | noun |",
        "|---|---|---|---|---|---|---|---|",
        "| a | 1.50 | 1.25 to 2.00 | 3.00 | 0.226 | 3.3 | 0.800 | 0.250 |",
        "| b | 4.00 | 4.00 to 4.00 | 9.00 | 0.735 | 11.6 | 0.500 |  |",
    ]


def test_trade_needs_the_neck_first(tmp_path):
    pytest.importorskip("onnx")
    with pytest.raises(InputError, match="there is no file"):
        measure_trade([Candidate("a", tmp_path / "a.safetensors")], tmp_path, neck=tmp_path / "no.onnx")
