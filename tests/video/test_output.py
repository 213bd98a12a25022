"""What becomes of results: a summary, peaks, JSON lines, pictures, recordings."""

from __future__ import annotations

import io
import json
import time
from importlib.resources import files

import cv2
import jsonschema
import numpy as np
import pytest
from pictures import frames_of
from standins import Pictures, Standin, fetch, picture, result_of

from salgan_edge.errors import OutputError
from salgan_edge.images import read_image
from salgan_edge.result import SaliencyResult
from salgan_edge.video.files import VideoFile
from salgan_edge.video.frames import Frame
from salgan_edge.video.output import (
    JsonLines,
    LiveOutput,
    Meter,
    Rate,
    check_output,
    compose,
    grid_peaks,
    lines_file,
    save_still,
)
from salgan_edge.video.pipeline import LiveResult, Stream

# Rate and meter


def test_rate_by_hand():
    rate = Rate(window=2)
    assert rate.per_second == 0
    rate.add(10)
    assert rate.per_second == 0
    for moment in (10.5, 11, 12):
        rate.add(moment)
    assert rate.per_second == 1.5  # three steps in two seconds
    rate.add(13)
    assert rate.per_second == 1  # 11, 12 and 13 are left
    for _ in range(3):
        rate.add(20)
    assert rate.per_second == 0


class Streaming:
    """What a meter wants to know of a pipeline."""

    def __init__(self, *, live: bool, dropped: int = 0) -> None:
        self.source = Pictures(0)
        self.source.live = live
        self.dropped = dropped


def test_meter_by_hand(monkeypatch):
    monkeypatch.setattr("salgan_edge.video.output.time.monotonic", lambda: 100.0)
    meter = Meter()
    grid = np.ones((2, 2), np.float32)
    for number, age in enumerate((0.02, 0.06, 0.04)):
        frame = Frame(picture(0), number, 101 + number - age, 0.0)
        meter.add(result_of(grid, frame=frame), 101.0 + number)
    assert meter.frames == 3
    assert meter.fps == 1
    assert meter.age == pytest.approx(0.04)
    monkeypatch.setattr("salgan_edge.video.output.time.monotonic", lambda: 104.0)
    live = Streaming(live=True, dropped=7)
    assert meter.line(live) == "3 frames   1 fps   age 40 ms   dropped 7"
    assert meter.summary(live) == "3 frames in 4.0 s, 0.8 fps, 7 dropped; median age 40 ms"
    assert "dropped" not in meter.summary(Streaming(live=False))
    assert Meter().summary(live).startswith("0 frames in 0.0 s, 0.0 fps")


# Peaks


@pytest.mark.parametrize(
    "size", [(640, 480), (1920, 1080), (480, 640), (1600, 100), (60, 500), (40, 30), (1, 1)]
)
@pytest.mark.parametrize("shape", [(16, 16), (24, 32)])
def test_peaks_of_a_grid_are_those_of_the_enlarged_map(size, shape):
    """Within a cell; spots are far enough apart that their order is not a matter of rounding."""
    random = np.random.default_rng(3)
    grid = np.zeros(shape, np.float32)
    for value, row, column in ((1, 0.2, 0.2), (0.8, 0.8, 0.3), (0.55, 0.35, 0.8)):
        grid[int(row * shape[0]), int(column * shape[1])] = value
    grid = cv2.GaussianBlur(grid, (0, 0), 1.0) + random.uniform(0, 1e-4, shape).astype(np.float32)
    grid /= grid.max()
    width, height = size
    expected = SaliencyResult.from_grid(np.zeros((height, width, 3), np.uint8), None, grid).peaks(3)
    found = grid_peaks(grid, size, 3)
    # `SaliencyResult.peaks` itself looks for all but the first on a map of 256 pixels.
    step = max(size) / 256
    cell = (max(width / shape[1], step), max(height / shape[0], step))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert abs(one.x - other.x) <= max(1, cell[0])
        assert abs(one.y - other.y) <= max(1, cell[1])
        assert one.value == pytest.approx(other.value, abs=0.05)
        assert 0 <= one.x < width
        assert 0 <= one.y < height
        assert type(one.x) is type(one.y) is int


# JSON lines

SCHEMA = json.loads((files("salgan_edge") / "record.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FIELDS = {
    "schema_version", "type", "index", "time", "width", "height", "text", "peak", "peaks", "text_effect", "milliseconds", "device",
}  # fmt: skip


def check_line(line: str, *further: str) -> dict:
    """A record of a frame with just these further fields, and values that fit each other."""
    record = json.loads(line)
    VALIDATOR.validate(record)
    assert record["type"] == "frame"
    assert set(record) - FIELDS == set(further)
    assert set(record) >= FIELDS
    first = record["peaks"][0]
    assert record["peak"] == {"x": first["x"], "y": first["y"]}
    values = [peak["value"] for peak in record["peaks"]]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(1, abs=0.1)
    for peak in record["peaks"]:
        assert peak["x"] < record["width"]
        assert peak["y"] < record["height"]
    return record


def spot(row: int, column: int) -> np.ndarray:
    grid = np.zeros((12, 16), np.float32)
    grid[row, column] = 1
    return grid


def test_json_lines(tmp_path):
    first, second = io.StringIO(), io.StringIO()
    lines = JsonLines([first, second], "cpu", 2, tmp_path / "a.mp4", "0123")
    frame = Frame(picture(0, (64, 48)), 3, time.monotonic(), 0.12345678, "a.jpg")
    grids = np.stack([spot(2, 3), spot(9, 12)])
    result = LiveResult(frame, ("ein Kätzchen", None), grids, grids, True, {"generator": 1.23456})
    lines.write(result, {"draw": 2.0}, {"age_ms": 4.0, "dropped": 5})
    lines.write(result_of(spot(2, 3), predicted=False))
    text = first.getvalue()
    assert second.getvalue() == text
    assert text.endswith("}\n")
    further = ("file", "name", "age_ms", "dropped", "bundle")
    told, free = records = [check_line(line, *further) for line in text.splitlines()]
    assert [record["text"] for record in records] == ["ein Kätzchen", None]
    # The middle of a cell of 4 x 4 pixels.
    for record, (x, y) in zip(records, ((14, 10), (50, 38)), strict=True):
        assert (record["index"], record["time"], record["width"], record["height"]) == (3, 0.1235, 64, 48)
        assert (record["name"], record["bundle"], record["device"]) == ("a.jpg", "0123", "cpu")
        assert abs(record["peak"]["x"] - x) <= 2
        assert abs(record["peak"]["y"] - y) <= 2
        assert set(record["milliseconds"]) == {"generator", "draw", "peaks"}
        assert record["milliseconds"]["generator"] == 1.235
    # Two spots in two cells: nothing stays where it was.
    assert told["text_effect"]["moved"] == 1
    assert free["text_effect"] is None


def test_lines_where_nothing_may_be_written(tmp_path):
    with (
        pytest.raises(OutputError, match=r"no/a\.jsonl cannot be written: No such file"),
        lines_file(tmp_path / "no/a.jsonl"),
    ):
        pass


def test_json_lines_into_a_full_disk():
    class Full(io.StringIO):
        name = "lines.jsonl"

        def flush(self):
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"lines\.jsonl cannot be written: No space left on device"):
        JsonLines([Full()], "cpu", 1).write(result_of(spot(1, 1)))


# Pictures


def test_compose_side_by_side():
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    frame = Frame(image, 0, 0.0, 0.0)
    grids = np.stack([spot(2, 3), spot(9, 12)])
    result = LiveResult(frame, ("a", None), grids, grids, True, {})
    alone = [compose(result, [number]) for number in (0, 1)]
    both = compose(result, [0, 1])
    bare = compose(result, [1], captions=False)
    strip = alone[0].shape[0] - 48
    assert alone[0].shape == (48 + strip, 64, 3)
    assert both.shape == (48 + strip, 64 + 4 + 64, 3)
    assert np.array_equal(both[:, :64], alone[0])
    assert np.array_equal(both[:, 68:], alone[1])
    assert (both[:, 64:68] == 255).all()
    assert np.array_equal(bare, alone[1][strip:])
    # A caption was written.
    assert strip > 0
    assert alone[1][:strip].min() < 128
    # Where the map is 0 the picture is the photo.
    assert np.abs(bare[:20, :20].astype(int) - image[:20, :20]).max() <= 1
    assert np.abs(bare[36:40, 48:52].astype(int) - image[36:40, 48:52]).mean() > 20


def test_large_frames_are_shown_small_and_recorded_whole(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (1440, 2560, 3)).astype(np.uint8)
    with Stream(Pictures(1), Standin(), ["a"]) as pipeline, LiveOutput(pipeline) as output:
        result = result_of(spot(2, 3), image=image, texts=("a", "b"))
        assert output.take(result, [0], draw=True).shape == (720 + 36, 1280, 3)
        assert output.take(result, [0, 1], draw=True).shape == (360 + 36, 2 * 640 + 4, 3)
        output.record(tmp_path / "a.avi")
        assert output.take(result, [0], draw=True).shape == (720 + 36, 1280, 3)
    assert result.frame.image is image
    assert frames_of(tmp_path / "a.avi")[0].shape == (1440 + 36, 2560, 3)


def test_stills_of_texts_with_the_same_name(tmp_path):
    result = result_of(spot(1, 2), texts=("cat!", "cat?"))
    written = save_still(result, [0, 1], tmp_path, "x")
    assert len(set(written)) == len(written) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in written)
    assert np.array_equal(read_image(written[0]), result.frame.image)
    grey = cv2.imread(str(written[2]), cv2.IMREAD_UNCHANGED)
    assert (grey.dtype, grey.shape) == (np.uint16, (48, 64))


# Recording and ends


def test_recording_is_begun_and_ended(tmp_path):
    output = LiveOutput(Stream(Pictures(9), Standin(), ["a"]))
    with output.pipeline, output:
        assert output.take(fetch(output.pipeline), [0], draw=False) is None
        output.record(tmp_path / "a.mp4")
        for _ in range(3):
            assert output.take(fetch(output.pipeline), [0], draw=False) is not None
        assert output.recording == tmp_path / "a.mp4"
        assert not (tmp_path / "a.mp4").exists()
        output.record(None)
        assert output.recorded == [tmp_path / "a.mp4"]
        assert output.take(fetch(output.pipeline), [0], draw=False) is None
        output.record(tmp_path / "b.avi")
        output.take(fetch(output.pipeline), [0], draw=False)
        # Nothing comes any more: nothing is left.
    assert output.recorded == [tmp_path / "a.mp4", tmp_path / "b.avi"]
    assert len(frames_of(tmp_path / "a.mp4")) == 3
    assert len(frames_of(tmp_path / "b.avi")) == 1
    with VideoFile(tmp_path / "a.mp4") as video:
        assert video.fps == pytest.approx(10)


def test_recording_without_a_frame_leaves_nothing(tmp_path):
    with Stream(Pictures(1), Standin(), ["a"]) as pipeline:
        output = LiveOutput(pipeline, record=tmp_path / "a.mp4")
        output.close()
    assert output.recorded == []
    assert list(tmp_path.iterdir()) == []


def test_recording_of_a_camera_follows_the_clock_but_for_a_pause(tmp_path):
    source = Pictures(0)
    source.live = True
    pipeline = Stream(source, Standin(), ["a"])
    output = LiveOutput(pipeline, record=tmp_path / "a.avi")
    grid = spot(1, 1)
    # Thirty a second, whatever the source says of itself: 0.3 s are bridged by repeating, an hour is not.
    for moment in (0.0, 0.1, 0.4, 3600.4, 3600.5):
        frame = Frame(picture(0, (64, 48)), 0, 0.0, moment)
        output.take(result_of(grid, frame=frame), [0], draw=False)
    output.close()
    pipeline.close()
    assert len(frames_of(tmp_path / "a.avi")) == 13 + 1 + 3


def test_recorded_pictures_of_another_size_keep_their_proportions(tmp_path):
    """A second prompt side by side, or a source that changes its size."""
    with Stream(Pictures(1), Standin(), ["a"]) as pipeline:
        output = LiveOutput(pipeline, record=tmp_path / "a.avi")
        white = np.zeros((12, 16), np.float32)
        for width, height in ((128, 92), (320, 24), (20, 192)):
            image = np.full((height, width, 3), 40, np.uint8)
            output.take(result_of(white, image=image), [0], draw=False)
        output.close()
    first, wide, tall = frames_of(tmp_path / "a.avi")
    assert first.shape == wide.shape == tall.shape == (128, 128, 3)
    dark = [(image < 100).all(axis=2) for image in (first, wide, tall)]
    # 128 wide: 24 rows become 10; 128 high: 20 columns become 11.
    assert dark[0][60:].mean() > 0.95
    assert 6 <= dark[1][:, 64].sum() <= 14
    assert 8 <= dark[2][100].sum() <= 14


def test_recording_by_key_that_fails_does_not_end_the_stream(tmp_path):
    with Stream(Pictures(5), Standin(), ["a"]) as pipeline:
        output = LiveOutput(pipeline)
        (tmp_path / "file").write_text("x")
        output.record(tmp_path / "file" / "a.mp4", may_fail=True)
        assert output.take(fetch(pipeline), [0], draw=True) is not None
        assert output.problem is not None
        assert "cannot write" in output.problem
        assert output.recording is None
        output.record(tmp_path / "file" / "a.mp4")
        with pytest.raises(OutputError, match="cannot write"):
            output.take(fetch(pipeline), [0], draw=True)


def test_end_after_so_many_frames():
    with Stream(Pictures(5), Standin(), ["a"]) as pipeline:
        output = LiveOutput(pipeline, max_frames=2)
        full = []
        for result in pipeline:
            output.take(result, [0], draw=False)
            full.append(output.full)
    assert full == [False, True, True, True, True]


def test_output_is_checked_before_a_stream_begins(tmp_path):
    (tmp_path / "a.mp4").touch()
    check_output(tmp_path / "new.mp4", "rtsp://host/x")
    check_output(tmp_path / "a.mp4")
    for path, message in (
        (tmp_path / "no/a.mp4", "does not exist"),
        (tmp_path, "is a folder"),
        (tmp_path / "a.mp4", "is the source"),
    ):
        with pytest.raises(OutputError, match=message):
            check_output(path, tmp_path / "a.mp4")


def test_without_a_window_results_are_taken_until_there_are_enough(tmp_path):
    ticks = []
    with (
        lines_file(tmp_path / "a.jsonl") as file,
        Stream(Pictures(9), Standin(), ["a"]) as pipeline,
        LiveOutput(pipeline, JsonLines([file], pipeline.device, 1), tmp_path / "a.avi", 4) as output,
    ):
        output.run([0, 1], lambda: ticks.append(output.meter.frames))
    assert ticks == [1, 2, 3, 4]
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 4
    assert len(frames_of(tmp_path / "a.avi")) == 4
