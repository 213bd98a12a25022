"""`salgan-edge webcam` as people run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from pictures import HEIGHT, LONG, WIDTH, Server, frames_of, jpeg, write_video

from salgan_edge.bundle import default_bundle
from salgan_edge.errors import SourceError
from salgan_edge.video.files import VideoFile

FPS, COUNT = 12.5, 10
FIELDS = {
    "schema_version", "type", "index", "time", "age_ms", "dropped", "width", "height", "text", "peak", "peaks", "text_effect",
    "milliseconds", "device", "bundle",
}  # fmt: skip


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "a.avi", COUNT, FPS)


def lines_of(text: str) -> list[dict]:
    """Every line a JSON object with the fields of a frame."""
    assert text == "" or text.endswith("\n")
    records = [json.loads(line) for line in text.splitlines()]
    for record in records:
        assert set(record) - {"name"} == FIELDS
    return records


class Command:
    """The command in a process of its own."""

    def __init__(self, *arguments, stdin=subprocess.DEVNULL, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "salgan_edge", *map(str, arguments)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=stdin != subprocess.PIPE,
            env={**os.environ, **environment},
        )

    def end(self, data=None):
        """Exit code, standard output and standard error."""
        try:
            out, err = self.process.communicate(data, timeout=LONG)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        out, err = ((x if isinstance(x, str) else x.decode()) for x in (out, err))
        assert "Traceback" not in err, err
        assert "Exception ignored" not in err, err
        return self.process.returncode, out, err


# Headless, in this process


def test_json_lines_of_a_video(run, video):
    code, out, err = run("webcam", "--headless", "--source", video, "--json", "a square", "--top-k", 2)
    assert code == 0
    records = lines_of(out)
    assert [record["index"] for record in records] == list(range(COUNT))
    assert [record["time"] for record in records] == pytest.approx([n / FPS for n in range(COUNT)], abs=2e-3)
    for record in records:
        assert (record["width"], record["height"], record["dropped"]) == (WIDTH, HEIGHT, 0)
        assert record["device"] == "cpu"
        assert record["age_ms"] > 0
        assert {"generator", "stabilise", "peaks"} == set(record["milliseconds"])
        assert record["text"] == "a square"
        assert 1 <= len(record["peaks"]) <= 2
    assert err.startswith(f"{COUNT} frames in ")
    assert len(err.splitlines()) == 1


def test_everything_at_once(run, video, tmp_path):
    code, out, err = run(
        "webcam", "--headless", "-s", video, "--json", "--jsonl", "lines.jsonl", "--record", "r.mp4",
        "--every", 3, "--max-frames", 8, "--half-life", 0, "--no-normalise", "a square", "the floor",
    )  # fmt: skip
    assert code == 0
    records = lines_of(out)
    assert [(record["index"], record["text"]) for record in records] == [
        (index, text) for index in (0, 3, 6) for text in ("a square", "the floor")
    ]
    assert (tmp_path / "lines.jsonl").read_text() == out
    assert {"draw", "record"} <= set(records[0]["milliseconds"])
    assert "stabilise" not in records[0]["milliseconds"]
    assert err.splitlines()[0] == "r.mp4"
    assert err.splitlines()[1].startswith("8 frames in ")
    with VideoFile(tmp_path / "r.mp4") as recorded:
        assert recorded.fps == pytest.approx(FPS)
        assert recorded.size == (WIDTH, HEIGHT + 36)
    assert len(frames_of(tmp_path / "r.mp4")) == 8


def test_without_json_the_recording_is_named_on_standard_output(run, video):
    code, out, err = run("webcam", "--headless", "-s", video, "--record", "r.avi", "--side-by-side", "x", "y")
    assert (code, out) == (0, "r.avi\n")
    assert err.startswith(f"{COUNT} frames in ")
    recorded = frames_of("r.avi")
    assert len(recorded) == COUNT
    assert recorded[0].shape == (HEIGHT + 36, 2 * WIDTH + 4, 3)


def test_peaks_are_those_of_the_bare_maps(run, video, predictor):
    _, out, _ = run(
        "webcam", "--headless", "-s", video, "--json", "--half-life", 0, "--no-normalise", "a square"
    )
    for record, image in zip(lines_of(out), frames_of(video), strict=True):
        x, y = predictor.predict(image, "a square").peak
        assert abs(record["peak"]["x"] - x) <= WIDTH / 32
        assert abs(record["peak"]["y"] - y) <= HEIGHT / 32


def test_video_as_if_it_were_a_camera(run, video):
    started = time.monotonic()
    code, out, err = run("webcam", "--headless", "-s", video, "--real-time", "--json", "x")
    # The last of ten frames comes after nine periods.
    assert time.monotonic() - started > 9 / FPS
    records = lines_of(out)
    assert code == 0
    indices = [record["index"] for record in records]
    assert indices == sorted(set(indices))
    assert indices[-1] == COUNT - 1
    assert len(records) + records[-1]["dropped"] == COUNT
    assert " dropped; median age " in err


def test_folder_and_image_as_source(run, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in (1, 2, 10):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(jpeg(number))
    _, out, _ = run("webcam", "--headless", "-s", "photos", "--json", "x")
    assert [record["name"] for record in lines_of(out)] == ["1.jpg", "2.jpg", "10.jpg"]
    _, out, _ = run("webcam", "--headless", "-s", "photos/2.jpg", "--json")
    assert [(record["name"], record["text"]) for record in lines_of(out)] == [("2.jpg", None)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--record", "r.txt"], "has no suffix of a video"),
        (["--record", "no/r.mp4"], "the folder no does not exist"),
        (["--jsonl", "no/a.jsonl"], "the folder no does not exist"),
        (["--jsonl", "."], "is a folder"),
        (["--output", "no"], "no is no folder"),
        (["--size", "640"], "640 is no size"),
        (["--size", "0x5"], "0x5 is no size"),
        (["--every", "0"], "--every"),
        (["--max-frames", "0"], "--max-frames"),
        (["--top-k", "0"], "--top-k"),
        (["--half-life", "-1"], "--half-life"),
        (["--patience", "-1"], "--patience"),
        (["--device", "tpu"], "--device"),
    ],
)
def test_wrong_usage(run, video, options, words):
    code, out, err = run("webcam", "--headless", "-s", video, *options)
    assert (code, out) == (2, "")
    assert words in " ".join(err.split())


def test_source_is_not_overwritten(run, video, tmp_path):
    copy = tmp_path / "a.avi"
    copy.write_bytes(video.read_bytes())
    for option in ("--record", "--jsonl"):
        code, _, err = run("webcam", "--headless", "-s", copy, option, copy)
        assert code == 2
        assert "is the source" in " ".join(err.split())
    assert copy.read_bytes() == video.read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-s", "no.mp4"], "no.mp4 does not exist"),
        (["-s", "97"], "camera 97"),
        (["-s", "VIDEO", "--size", "640x480"], "a size can be asked of cameras only"),
        (["-s", "VIDEO", "--fps", "-3"], "-3 frames per second are not possible"),
        (["-s", "VIDEO", "--backend", "v4l2"], "v4l2"),
        (["-s", "VIDEO", "caf\udce9"], "not valid Unicode"),
        (["-s", "VIDEO", "--prompts", "no.npz"], "no.npz"),
        (["-s", "VIDEO", "--bundle", "no"], "no"),
    ],
)
def test_errors_in_one_line(run, video, tmp_path, options, words):
    code, out, err = run(
        "webcam", "--headless", *(str(video) if option == "VIDEO" else option for option in options),
        "--record", "r.mp4",
    )  # fmt: skip
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_unusable_prompt_is_refused_before_anything_opens(run, monkeypatch):
    from salgan_edge.video import sources

    monkeypatch.setattr(sources, "open_source", lambda *_, **__: pytest.fail("was opened"))
    code, _, err = run("webcam", "--headless", "x", "caf\udce9")
    assert code == 1
    assert "not valid Unicode" in err


def test_long_prompt_is_warned_about_once(run, video):
    _, out, err = run("webcam", "--headless", "-s", video, "--json", "--max-frames", 1, "word " * 100)
    assert len(lines_of(out)) == 1
    warned, summary = err.splitlines()
    assert warned.startswith("warning: the text has more than 77 tokens")
    assert summary.startswith("1 frame in ")


def test_prompt_pack_without_text_encoder(run, video):
    assert run("bake", "-o", "pack.npz", "a square", "the floor")[0] == 0
    assert run("bundle", "pack", default_bundle(), "small.salgan", "--without-text-encoder")[0] == 0
    options = ("webcam", "--headless", "-b", "small.salgan", "-s", video, "--json", "--max-frames", 1)
    code, out, _ = run(*options, "--prompts", "pack.npz")
    assert code == 0
    assert [record["text"] for record in lines_of(out)[:2]] == ["a square", "the floor"]
    code, out, err = run(*options, "--prompts", "pack.npz", "another")
    assert (code, out) == (1, "")
    assert "another" in err
    code, out, err = run(*options, "a square")
    assert (code, out) == (1, "")
    assert "packed without text encoder" in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a device that is always full")  # noqa: PTH110
def test_lines_into_a_full_disk(run, video, tmp_path):
    code, _, err = run("webcam", "--headless", "-s", video, "--jsonl", "/dev/full", "--record", "r.avi", "x")
    assert code == 1
    assert "error: /dev/full cannot be written: No space left on device" in err
    assert "Traceback" not in err
    # What was recorded until then is there.
    assert len(frames_of(tmp_path / "r.avi")) == 1


# In a process of its own


def test_images_from_standard_input():
    command = Command("webcam", "--headless", "-s", "-", "--json", "x", stdin=subprocess.PIPE)
    code, out, err = command.end(b"".join(jpeg(number) for number in range(5)))
    assert code == 0
    assert [record["index"] for record in lines_of(out)] == list(range(5))
    assert err.startswith("5 frames in ")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path, stop):
    video = write_video(tmp_path / "a.avi", 400, 25)
    command = Command(
        "webcam", "--headless", "-s", video, "--real-time", "--record", tmp_path / "r.mp4",
        "--jsonl", tmp_path / "a.jsonl", "--json", "x",
    )  # fmt: skip
    # It works once a few lines are there.
    first = [command.process.stdout.readline() for _ in range(5)]
    command.process.send_signal(stop)
    code, out, err = command.end()
    assert code == 128 + stop
    told = (tmp_path / "a.jsonl").read_text()
    # The last line may have reached one of the two only.
    assert told.startswith("".join(first[:4]))
    count = len(lines_of(told))
    assert abs(count - len(lines_of("".join(first) + out))) <= 1
    assert str(tmp_path / "r.mp4") in err
    assert (
        f"{count} frames in " in err or f"{count - 1} frames in " in err or f"{count + 1} frames in " in err
    )
    recorded = frames_of(tmp_path / "r.mp4")
    assert len(recorded) >= 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.avi", "a.jsonl", "r.mp4"]


def test_reader_that_goes_away(tmp_path):
    """``| head -1``."""
    video = write_video(tmp_path / "a.avi", 400, FPS)
    command = Command("webcam", "--headless", "-s", video, "--json", "x")
    assert json.loads(command.process.stdout.readline())["index"] == 0
    command.process.stdout.close()
    assert command.process.wait(LONG) in (0, 1)
    err = command.process.stderr.read()
    command.process.stderr.close()
    assert "Traceback" not in err
    assert "Exception" not in err
    assert "BrokenPipe" not in err
    assert len(err.splitlines()) <= 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have a display")
@pytest.mark.parametrize("display", ["", ":987"])
def test_no_display(video, display):
    code, out, err = Command("webcam", "-s", video, "x", DISPLAY=display, WAYLAND_DISPLAY="").end()
    assert (code, out) == (1, "")
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert "--headless" in told[0]
    assert ("DISPLAY is not set" if not display else ":987") in told[0]


def test_network_camera_dies_and_returns(run, monkeypatch):
    from salgan_edge.video import output, sources

    monkeypatch.setattr(sources, "_FIRST_PAUSE", 0.05)
    server = Server()
    written = 0
    real = output.JsonLines.write

    def write(self, *arguments):
        nonlocal written
        real(self, *arguments)
        written += 1
        if written == 5:
            server.stop()
            server.start()

    monkeypatch.setattr(output.JsonLines, "write", write)
    address = f"http://me:secret@127.0.0.1:{server.port}/live?token=hidden"
    code, out, err = run("webcam", "--headless", "-s", address, "--json", "--max-frames", 15, "x")
    server.stop()
    assert code == 0
    records = lines_of(out)
    assert len(records) == 15
    assert [r["time"] for r in records] == sorted(r["time"] for r in records)
    *notes, summary = err.splitlines()
    assert all(note.startswith("note: ") for note in notes)
    assert any("lost" in note for note in notes)
    assert any("is back" in note for note in notes)
    assert summary.startswith("15 frames in ")
    assert "secret" not in err
    assert "hidden" not in err


def test_patience_waits_for_a_source_that_is_not_there_yet(run, tmp_path, monkeypatch):
    """The first two openings fail, as of a camera that is still being plugged in."""
    from salgan_edge.video import capture, sources

    tries = []
    video = write_video(tmp_path / "late.avi", COUNT, FPS)

    def late(_place, **_options):
        tries.append(None)
        if len(tries) < 3:
            raise SourceError("no camera yet")
        return capture.open_stream(str(video))

    monkeypatch.setattr(capture, "open_camera", late)
    monkeypatch.setattr(sources, "_OPENING_PAUSE", 0.01)
    code, _, err = run("webcam", "a cup", "-s", "7", "--headless", "--patience", 60)
    assert code == 0
    assert err.count("no camera yet; trying again for") == 2
    tries.clear()
    code, _, err = run("webcam", "a cup", "-s", "7", "--headless")
    assert (code, err) == (1, "error: no camera yet\n")
