"""One record for images, videos and live frames: what `--json` prints fits the schema."""

from __future__ import annotations

import json
from importlib.resources import files

import cv2
import numpy as np
import pytest

from salgan_edge import samples

jsonschema = pytest.importorskip("jsonschema")

SCHEMA = json.loads((files("salgan_edge") / "record.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def check(record):
    VALIDATOR.validate(record)
    return record


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_results(predictor):
    told, free = predictor.predict(samples.path("coffee"), ["a spoon", None])
    record = check(json.loads(json.dumps(told.to_dict(file="coffee.jpg", files={"overlay": "a.png"}))))
    assert record["file"] == "coffee.jpg"
    assert record["text"] == "a spoon"
    assert (record["peak"]["x"], record["peak"]["y"]) == told.peak
    assert record["text_effect"]["moved"] > 0.1
    assert record["bundle"] == predictor.bundle.manifest.bundle_id
    assert check(free.to_dict())["text_effect"] is None
    assert len(check(told.to_dict(peaks=1))["peaks"]) == 1


def test_images(run, tiny_bundle, photo_file):
    code, out, _ = run(
        "predict", photo_file, "-t", "a dog", "-t", "a cat", "-b", tiny_bundle, "--json", "--map"
    )
    assert code == 0
    records = [check(json.loads(line)) for line in out.splitlines()]
    assert [(record["type"], record["text"]) for record in records] == [
        ("image", "a dog"),
        ("image", "a cat"),
    ]
    assert set(records[0]["files"]) == {"overlay", "map"}


def test_videos(run, tiny_bundle, tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3)).astype(np.uint8)
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for frame in frames:
        writer.write(frame)
    writer.release()
    code, out, _ = run("predict", "clip.avi", "-t", "a dog", "-t", "a cat", "-b", tiny_bundle, "--json")
    assert code == 0
    *records, last = [check(json.loads(line)) for line in out.splitlines()]
    assert [(record["type"], record["index"], record["text"]) for record in records] == [
        ("frame", index, text) for index in range(3) for text in ("a dog", "a cat")
    ]
    assert last["type"] == "summary"
    assert last["frames"] == 3
    code, out, _ = run("webcam", "a dog", "--source", "clip.avi", "--headless", "--json", "-b", tiny_bundle)
    assert code == 0
    live = [check(json.loads(line)) for line in out.splitlines()]
    assert all(record["age_ms"] >= 0 for record in live)


@pytest.mark.parametrize(
    "broken",
    [
        {"schema_version": 2},
        {"type": "picture"},
        {"peaks": []},
        {"peak": {"x": -1, "y": 0}},
        {"text": 3},
        {"text_effect": {"moved": 2, "correlation": 0}},
        {"width": 0},
        {"type": "frame"},
        {"type": "summary"},
    ],
)
def test_the_schema_refuses_what_is_no_record(predictor, broken):
    record = predictor.predict(np.zeros((8, 8, 3), np.uint8), "a dog").to_dict()
    check(record)
    with pytest.raises(jsonschema.ValidationError):
        check({**record, **broken})
