"""The window's keys, with a stand-in for the window."""

from __future__ import annotations

import sys
import time

import cv2
import numpy as np
import pytest
from pictures import frames_of
from standins import Standin

from salgan_edge.errors import OutputError
from salgan_edge.images import read_image
from salgan_edge.render import overlay_grid
from salgan_edge.video.frames import Frame, Source
from salgan_edge.video.output import LiveOutput
from salgan_edge.video.pipeline import Stream
from salgan_edge.video.window import KEYS, Viewer, Window


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


class Bench:
    """A viewer on a stand-in window."""

    def __init__(self, folder, texts, *script, source=None, **options) -> None:
        self.said: list[str] = []
        self.lines: list[str] = []
        self.screen = Screen(*script)
        self.pipeline = Stream(source or Scene(), Standin(), texts[:1])
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
        shown = self.viewer.shown
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
    bench.until(lambda: bench.viewer.line == "there are 3 prompts; / types another", "²", "\u0663", "q")
    bench.run()
    assert bench.shows("b")


def test_typing_a_prompt(tmp_path):
    bench = Bench(tmp_path, ["a"], "/", *"qx1")
    bench.until(lambda: bench.viewer.line == "look for: qx1_", "backspace", "backspace", "enter")
    bench.until(lambda: bench.shows("q"), "/", "z", "escape")
    # Left: the prompt stays; and Escape here did not quit.
    bench.until(lambda: "look for" not in bench.viewer.line, "/", " ", "enter")
    bench.until(lambda: bench.shows(None), "1")
    # Of a long prompt the end is seen.
    bench.until(lambda: bench.shows("a"), "/", *("word " * 30), "x")
    bench.until(lambda: bench.viewer.line.endswith("word x_") and len(bench.viewer.line) < 100, "escape", "q")
    bench.run()


def test_bad_prompt_is_told_and_the_old_one_stays(tmp_path):
    bench = Bench(tmp_path, ["a", "b"], "/", *"bad", "enter")
    bench.until(lambda: bench.viewer.line == "bad text", "v")
    bench.until(lambda: bench.shows("a", "b"), "/", *"long", "enter")
    bench.until(lambda: bench.viewer.line == "this text was cut", "q")
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
    bench.until(lambda: bench.viewer.line == "there is one prompt; / types another", "/", "x", "enter", "v")
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
        state["frame"] = bench.viewer.shown.frame
        return bench.viewer.line.startswith("paused")

    def new_prompt_on_the_same_frame():
        return bench.shows("b") and bench.viewer.shown.frame is state["frame"]

    def goes_on():
        # Never back to the old prompt.
        assert bench.viewer.shown.texts == ("b",)
        return bench.viewer.shown.frame.index > state["frame"].index

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
    bench.until(lambda: "cannot write" in bench.viewer.line, "r")
    bench.until(lambda: bench.output.recording is None and "cannot write" in bench.viewer.line, "q")
    bench.run()
    assert bench.said == []


def test_recording(tmp_path):
    bench = Bench(tmp_path, ["a", "b"], "r")
    bench.until(lambda: bench.output.recording and len(bench.taken) > 5)
    bench.until(lambda: "recording" in bench.viewer.line, "r")
    bench.until(lambda: bench.viewer.line.startswith("recorded salgan-edge-"), "r", "r")
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
    bench.until(lambda: "no frame for" in bench.viewer.line)
    bench.until(lambda: "fps" in bench.viewer.line, "q")
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


@pytest.mark.parametrize(("system", "key"), [("linux", None), ("win32", "\u06c1")])
def test_codes_of_x_are_no_unicode(monkeypatch, system, key):
    """0x6c1 is a Cyrillic letter there, and an Arabic one in Unicode."""
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "waitKeyEx", lambda _: 0x6C1)
    monkeypatch.setattr(sys, "platform", system)
    assert Window("test").key(0.001) == key


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
