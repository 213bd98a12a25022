"""`salgan-edge webcam` as people run it, and the window's keys with a stand-in for the window."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest
from PIL import Image

from salgan_edge.bundle import default_bundle
from salgan_edge.errors import OutputError, PromptError, SourceError
from salgan_edge.images import read_image
from salgan_edge.predictor import PromptWarning
from salgan_edge.render import overlay_grid
from salgan_edge.video.files import VideoFile
from salgan_edge.video.frames import Frame, Source
from salgan_edge.video.output import LiveOutput
from salgan_edge.video.pipeline import LivePipeline
from salgan_edge.video.window import KEYS, Viewer, Window

LONG = 30.0  # seconds; a wait that takes so long has failed
WIDTH, HEIGHT, FPS, COUNT = 96, 64, 12.5, 10
FIELDS = {"index", "time", "age_ms", "dropped", "width", "height", "results", "milliseconds", "device"}


def drawn(number: int) -> np.ndarray:
    """RGB: grey with a bright square that moves to the right."""
    image = np.full((HEIGHT, WIDTH, 3), 70, np.uint8)
    left = 4 + number * 6 % 70
    image[20:40, left : left + 16] = (250, 220, 40)
    return image


def write_video(path, count=COUNT, fps=FPS):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for number in range(count):
        writer.write(cv2.cvtColor(drawn(number), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "a.avi")


def jpeg(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(drawn(number)).save(file, "JPEG", quality=90)
    return file.getvalue()


def lines_of(text: str) -> list[dict]:
    """Every line a JSON object with the fields of a frame."""
    assert text == "" or text.endswith("\n")
    records = [json.loads(line) for line in text.splitlines()]
    for record in records:
        assert set(record) - {"name"} == FIELDS
    return records


def frames_of(path) -> list[np.ndarray]:
    with VideoFile(path) as frames:
        return [frame.image for frame in frames]


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
        (entry,) = record["results"]
        assert entry["text"] == "a square"
        assert 1 <= len(entry["peaks"]) <= 2
    assert err.startswith(f"{COUNT} frames in ")
    assert len(err.splitlines()) == 1


def test_everything_at_once(run, video, tmp_path):
    code, out, err = run(
        "webcam", "--headless", "-s", video, "--json", "--jsonl", "lines.jsonl", "--record", "r.mp4",
        "--every", 3, "--max-frames", 8, "--half-life", 0, "--no-normalise", "a square", "the floor",
    )  # fmt: skip
    assert code == 0
    records = lines_of(out)
    assert [record["index"] for record in records] == [0, 3, 6]
    assert [[entry["text"] for entry in record["results"]] for record in records] == [
        ["a square", "the floor"]
    ] * 3
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
        assert abs(record["results"][0]["peak"]["x"] - x) <= WIDTH / 32
        assert abs(record["results"][0]["peak"]["y"] - y) <= HEIGHT / 32


def test_free_viewing_without_a_text(run, video):
    _, out, _ = run("webcam", "--headless", "-s", video, "--json", "--max-frames", 1)
    assert lines_of(out)[0]["results"][0]["text"] is None


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
    _, out, _ = run("webcam", "--headless", "-s", "photos/2.jpg", "--json", "x")
    assert [record["name"] for record in lines_of(out)] == ["2.jpg"]


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
    assert [entry["text"] for entry in lines_of(out)[0]["results"]] == ["a square", "the floor"]
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


def test_lines_where_nothing_may_be_written(run, video, monkeypatch):
    from pathlib import Path

    real = Path.open

    def refuse(self, *arguments, **options):
        if self.name == "a.jsonl":
            raise PermissionError(13, "Permission denied")
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    code, _, err = run("webcam", "--headless", "-s", video, "--jsonl", "a.jsonl", "x")
    assert (code, err) == (1, "error: a.jsonl cannot be written: Permission denied\n")


# In a process of its own


def test_images_from_standard_input():
    command = Command("webcam", "--headless", "-s", "-", "--json", "x", stdin=subprocess.PIPE)
    code, out, err = command.end(b"".join(jpeg(number) for number in range(5)))
    assert code == 0
    assert [record["index"] for record in lines_of(out)] == list(range(5))
    assert err.startswith("5 frames in ")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path, stop):
    video = write_video(tmp_path / "a.avi", count=400, fps=25)
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
    video = write_video(tmp_path / "a.avi", count=400)
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


class Server:
    """A camera in the network, motion JPEG over HTTP."""

    def __init__(self) -> None:
        self.port = 0

    def start(self) -> None:
        self._stop = stop = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                number = 0
                try:
                    while not stop.wait(0.03):
                        data = jpeg(number)
                        number += 1
                        self.wfile.write(
                            b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n"
                            % (len(data), data)
                        )
                except OSError:
                    pass
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()


def test_network_camera_dies_and_returns(run, monkeypatch):
    from salgan_edge.video import output, sources

    monkeypatch.setattr(sources, "_FIRST_PAUSE", 0.05)
    server = Server()
    server.start()
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


# The window's keys, with a stand-in for the window


class Screen:
    """A window that types what the test says: after each picture, one key, or a function to call."""

    def __init__(self, *script) -> None:
        self.script = list(script)
        self.pictures: list[np.ndarray] = []
        self.closed = False
        self._idle = 0

    def show(self, picture) -> None:
        self.pictures.append(picture.copy())
        self._idle = 0

    def key(self, wait=0.0):
        assert wait < 1
        if wait:
            time.sleep(min(wait, 0.002))
        self._idle += 1
        assert self._idle < 5000, f"nothing shown; left to do: {self.script}"
        if not self.pictures or not self.script:
            return None
        step = self.script[0]
        if callable(step):
            if step():
                self.script.pop(0)
            return None
        return self.script.pop(0)


class Scene(Source):
    """A file of many frames, played fast; or as many as are given."""

    name, fps = "scene", 1000.0

    def __init__(self, count=10**6, *, live=False) -> None:
        self.live = live
        self._count, self._number, self._closed = count, 0, False

    def __next__(self) -> Frame:
        if self._closed or self._number == self._count:
            raise StopIteration
        number = self._number
        self._number += 1
        if self.live:
            time.sleep(0.002)
        image = np.full((48, 64, 3), number % 200, np.uint8)
        return Frame(image, number, time.monotonic(), number / 1000)

    def close(self) -> None:
        self._closed = True


class Eyes:
    """A predictor: the map of a text is all of one value."""

    device = "cpu"

    def __init__(self) -> None:
        self.texts = []

    def embed(self, texts):
        for text in texts:
            if text == "bad":
                raise PromptError("this text is bad")
            if text == "long":
                import warnings

                warnings.warn("this text was cut", PromptWarning, stacklevel=2)
        self.texts += [text for text in texts if text not in self.texts]
        return np.array([[float(self.texts.index(text))] for text in texts], np.float32)

    def grids(self, _image, vectors):
        return np.stack([np.full((3, 4), (1 + float(v[0])) / 10, np.float32) for v in vectors])


class Bench:
    """A viewer on a stand-in window."""

    def __init__(self, folder, texts, *script, source=None, **options) -> None:
        self.said: list[str] = []
        self.lines: list[str] = []
        self.screen = Screen(*script)
        self.pipeline = LivePipeline(source or Scene(), Eyes(), texts[:1])
        self.taken = []
        self.output = LiveOutput(self.pipeline)
        real = self.output.take

        def take(result, *arguments, **named):
            self.taken.append(result)
            return real(result, *arguments, **named)

        self.output.take = take
        self.viewer = Viewer(self.screen, self.output, texts, folder, say=self.said.append, **options)

    def run(self):
        with self.pipeline, self.output:
            self.viewer.run()
        return self

    def until(self, condition, *keys):
        """Steps: wait until it is so, then press."""
        self.screen.script += [condition, *keys]
        return self

    def shows(self, *texts):
        """Whether the picture shown is of these prompts."""
        shown = self.viewer._shown
        return shown is not None and shown.texts == texts


def test_every_key_is_explained():
    assert set(KEYS) == {"/", "1-9", "v", "space", "s", "r", "h", "q"}


@pytest.mark.parametrize("key", ["q", "escape"])
def test_quit(tmp_path, key):
    bench = Bench(tmp_path, ["a"], key).run()
    assert bench.screen.pictures
    assert bench.screen.pictures[0].shape == (48 + 36 + 36, 64, 3)
    assert list(tmp_path.iterdir()) == []


def test_closed_window_ends(tmp_path):
    bench = Bench(tmp_path, ["a"])

    def close():
        bench.screen.closed = True
        return True

    bench.screen.script.append(close)
    bench.run()
    assert bench.screen.script == []


def test_digits_choose_prompts(tmp_path):
    bench = Bench(tmp_path, ["a", "b", "c"], "3")
    bench.until(lambda: bench.shows("c"), "0")
    bench.until(lambda: bench.shows(None), "2")
    bench.until(lambda: bench.shows("b"), "9")
    bench.until(lambda: bench.viewer._line() == "there are 3 prompts; / types another", "²", "\u0663", "q")
    bench.run()
    assert bench.shows("b")


def test_typing_a_prompt(tmp_path):
    bench = Bench(tmp_path, ["a"], "/", *"qx1")
    bench.until(lambda: bench.viewer._line() == "look for: qx1_", "backspace", "backspace", "enter")
    bench.until(lambda: bench.shows("q"), "/", "z", "escape")
    # Left: the prompt stays; and Escape here did not quit.
    bench.until(lambda: "look for" not in bench.viewer._line(), "/", " ", "enter")
    bench.until(lambda: bench.shows(None), "1")
    bench.until(lambda: bench.shows("a"), "q")
    bench.run()


def test_end_of_a_long_prompt_is_seen(tmp_path):
    bench = Bench(tmp_path, ["a"], "/", *("word " * 30), "x")
    bench.until(lambda: bench.viewer._line().endswith("word x_"), "escape", "q")
    bench.until(lambda: len(bench.viewer._line()) < 100)
    bench.run()


def test_bad_prompt_is_told_and_the_old_one_stays(tmp_path):
    bench = Bench(tmp_path, ["a", "b"], "/", *"bad", "enter")
    bench.until(lambda: bench.viewer._line() == "this text is bad", "v")
    bench.until(lambda: bench.shows("a", "b"), "/", *"long", "enter")
    bench.until(lambda: bench.viewer._line() == "this text was cut", "q")
    bench.run()
    assert bench.shows("long", "a") or bench.shows("a", "b")


def test_side_by_side(tmp_path):
    bench = Bench(tmp_path, ["a", "b", "c"], lambda: bench.shows("a", "b"), "2", side_by_side=True)
    bench.until(lambda: bench.shows("b", "c"), "3")
    bench.until(lambda: bench.shows("c", "a"), "v")
    bench.until(lambda: bench.shows("c"), "/", "x", "enter", "v")
    bench.until(lambda: bench.shows("x", "a") and bench.screen.pictures[-1].shape[1] == 64 + 4 + 64, "q")
    bench.run()


def test_side_by_side_with_one_prompt(tmp_path):
    bench = Bench(tmp_path, ["a"], "v", side_by_side=True)
    bench.until(
        lambda: bench.viewer._line() == "there is one prompt; / types another", "/", "x", "enter", "v"
    )
    # The typed one beside the given one.
    bench.until(lambda: bench.shows("x", "a"), "q")
    bench.run()


@pytest.mark.parametrize("live", [False, True])
def test_pause(tmp_path, live):
    bench = Bench(tmp_path, ["a", "b"], source=Scene(live=live))
    state = {}

    def stopped():
        state.setdefault("taken", len(bench.taken))
        state.setdefault("until", time.monotonic() + 0.05)
        return time.monotonic() > state["until"]

    def stood_still():
        assert len(bench.taken) == state["taken"]
        state["frame"] = bench.viewer._shown.frame
        return bench.viewer._line().startswith("paused")

    def new_prompt_on_the_same_frame():
        return bench.shows("b") and bench.viewer._shown.frame is state["frame"]

    def goes_on():
        # Never back to the old prompt.
        assert bench.viewer._shown.texts == ("b",)
        return bench.viewer._shown.frame.index > state["frame"].index

    bench.until(lambda: len(bench.taken) > 3, " ").until(stopped).until(stood_still, "2")
    bench.until(new_prompt_on_the_same_frame, " ").until(goes_on, "q")
    bench.run()
    if live:
        late = [result for result in bench.taken if result.frame.captured < state["until"] - 0.04]
        assert len(late) <= state["taken"]
    else:
        assert [result.frame.index for result in bench.taken] == list(range(len(bench.taken)))


def test_stills(tmp_path):
    bench = Bench(tmp_path, ["a man", "b"], "s")
    bench.until(lambda: len(bench.said) == 3, "v")
    bench.until(lambda: bench.shows("a man", "b"), "s", "q")
    bench.run()
    assert len(bench.said) == 3 + 5
    names = sorted(path.name for path in tmp_path.iterdir())
    assert sorted(bench.said) == [str(tmp_path / name) for name in names]
    assert [name.split("_", 1)[1] for name in names] == [
        "a-man.png", "a-man_map.png", "frame.png",
        "a-man.png", "a-man_map.png", "b.png", "b_map.png", "frame.png",
    ]  # fmt: skip
    assert read_image(tmp_path / names[2]).shape == (48, 64, 3)


def test_stills_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    bench = Bench(tmp_path / "file", ["a"], "s")
    bench.until(lambda: "cannot write" in bench.viewer._line(), "r")
    bench.until(lambda: bench.output.recording is None and "cannot write" in bench.viewer._line(), "q")
    bench.run()
    assert bench.said == []


def test_recording(tmp_path):
    bench = Bench(tmp_path, ["a", "b"], "r")
    bench.until(lambda: bench.output.recording and len(bench.taken) > 5)
    bench.until(lambda: "recording" in bench.viewer._line(), "r")
    bench.until(lambda: bench.viewer._line().startswith("recorded salgan-edge-"), "r", "r")
    bench.until(lambda: bench.output.recording is None, "r", "v")
    # A second one, in which the picture changes its size; ended by quitting.
    bench.until(lambda: bench.shows("a", "b"), "q")
    bench.run()
    assert 2 <= len(bench.output.recorded) <= 3
    assert sorted(bench.output.recorded) == sorted(tmp_path.iterdir())
    for path in bench.output.recorded:
        assert frames_of(path)[0].shape == (84, 64, 3)


def test_help(tmp_path):
    bench = Bench(tmp_path, ["a"], "h")
    bench.until(lambda: bench.screen.pictures[-1].shape[0] == 48 + 36 + 36 * (1 + len(KEYS)), "h")
    bench.until(lambda: bench.screen.pictures[-1].shape[0] == 48 + 36 + 36, "q")
    bench.run()


def test_the_end_of_a_file_ends(tmp_path):
    bench = Bench(tmp_path, ["a"], source=Scene(20)).run()
    assert len(bench.taken) == 20


def test_one_image_stays_and_takes_new_prompts(tmp_path):
    bench = Bench(tmp_path, ["a", "b"], "2", source=Scene(1))
    bench.until(lambda: bench.shows("b"), " ", "1")
    bench.until(lambda: bench.shows("a"), "q")
    bench.run()
    assert len(bench.taken) == 1


def test_picture_is_the_overlay_above_its_status(tmp_path):
    bench = Bench(tmp_path, ["a"], "q", source=Scene(3)).run()
    shown = bench.screen.pictures[0]
    first = bench.taken[0]
    assert np.array_equal(shown[36:84], overlay_grid(first.frame.image, first.grids[0]))


def test_file_is_shown_at_its_own_pace(tmp_path):
    class Slow(Scene):
        def __next__(self):
            frame = super().__next__()
            return Frame(frame.image, frame.index, frame.captured, frame.index * 0.1)

    started = time.monotonic()
    Bench(tmp_path, ["a"], *"hhhhhhhhhhhhhhhh", source=Slow(4)).run()
    # However many keys come in between.
    assert time.monotonic() - started >= 0.3


def test_camera_that_falls_silent_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("salgan_edge.video.window._SILENCE", 0.05)

    class Silent(Scene):
        def __next__(self):
            if self._number == 2:
                time.sleep(0.5)
            return super().__next__()

    bench = Bench(tmp_path, ["a"], source=Silent(live=True))
    bench.until(lambda: "no frame for" in bench.viewer._line())
    bench.until(lambda: "fps" in bench.viewer._line(), "q")
    bench.run()


def test_failing_output_ends_the_window(tmp_path):
    bench = Bench(tmp_path, ["a"])

    def fail(*_, **__):
        raise OutputError("full")

    bench.output.take = fail
    with pytest.raises(OutputError, match="full"):
        bench.run()


@pytest.mark.parametrize(
    ("code", "key"),
    [
        (-1, None), (ord("a"), "a"), (ord("/"), "/"), (0x10000 + ord("A"), "A"), (8, "backspace"), (127, "backspace"),
        (10, "enter"), (13, "enter"), (27, "escape"), (32, " "), (0xE4, "ä"), (0xFFE1, None), (0x250000, None),
        (9, None), (0xAD, None),
    ],
)  # fmt: skip
def test_codes_of_keys(monkeypatch, code, key):
    """Shift alone (0xffe1), an arrow on Windows (0x250000), Tab, a soft hyphen."""
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "waitKeyEx", lambda _: code)
    assert Window("test").key(0.001) == key


def test_codes_of_x_are_no_unicode(monkeypatch):
    """0x6c1 is a Cyrillic letter there, and an Arabic one in Unicode."""
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "waitKeyEx", lambda _: 0x6C1)
    monkeypatch.setattr(sys, "platform", "linux")
    assert Window("test").key(0.001) is None
    monkeypatch.setattr(sys, "platform", "win32")
    assert Window("test").key(0.001) == "\u06c1"


def test_nothing_is_shown_in_a_closed_window(monkeypatch):
    """OpenCV would open another one."""
    shown = []
    visible = [1.0]
    for name in ("namedWindow", "resizeWindow"):
        monkeypatch.setattr(cv2, name, lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda *_: shown.append(1))
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: visible[0])
    window = Window("test")
    picture = np.zeros((4, 4, 3), np.uint8)
    window.show(picture)
    window.show(picture)
    assert not window.closed
    visible[0] = 0.0
    window.show(picture)
    visible[0] = 1.0
    window.show(picture)
    assert window.closed
    assert len(shown) == 2


def test_patience_waits_for_a_source_that_is_not_there_yet(run, tmp_path, monkeypatch):
    """The first two openings fail, as of a camera that is still being plugged in."""
    from salgan_edge.video import capture, sources

    tries = []
    video = write_video(tmp_path / "late.avi")

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
