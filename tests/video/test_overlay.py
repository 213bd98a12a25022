"""Videos of `salgan-edge predict`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from pictures import LONG, frames_of, names, write_video

from salgan_edge import samples
from salgan_edge.console import Stopped, stoppable
from salgan_edge.errors import OutputError, SourceError
from salgan_edge.images import read_image
from salgan_edge.video.files import VideoFile
from salgan_edge.video.output import JsonLines
from salgan_edge.video.overlay import overlay_video
from salgan_edge.video.pipeline import Plan
from salgan_edge.video.sources import open_source

COUNT, FPS = 12, 12.5
SIZE = (160, 120)


def coffee_video(path, count=COUNT, **options):
    """A photo that moves."""
    photo = cv2.resize(read_image(samples.path("coffee")), SIZE)
    return write_video(path, [np.roll(photo, 3 * number, axis=1) for number in range(count)], FPS, **options)


@pytest.fixture
def video(tmp_path):
    return coffee_video(tmp_path / "clip.avi")


def test_overlay_has_the_length_and_rate_of_its_source(run, video, tmp_path):
    code, out, err = run("predict", video, "a spoon")
    assert (code, out, err) == (0, "clip_a-spoon.mp4\n", "")
    with VideoFile(tmp_path / "clip_a-spoon.mp4") as written:
        assert written.fps == pytest.approx(FPS)
        assert written.size == SIZE
        images = [frame.image for frame in written]
    assert len(images) == COUNT
    assert names(tmp_path) == ["clip.avi", "clip_a-spoon.mp4"]


def test_overlay_differs_where_it_is_salient(run, video, tmp_path, predictor):
    assert run("predict", video, "a spoon", "--half-life", 0, "--no-normalise", "-o", "o.avi")[0] == 0
    for source, shown in zip(frames_of(video), frames_of(tmp_path / "o.avi"), strict=True):
        saliency = predictor.predict(source, "a spoon").map
        changed = np.abs(shown.astype(int) - source).max(axis=2)
        assert changed[saliency > 0.7].mean() > 45
        assert changed[saliency < 0.005].mean() < changed[saliency > 0.7].mean() / 3


def test_several_texts_images_and_maps(run, video, tmp_path, predictor):
    code, out, err = run(
        "predict", samples.path("coffee"), video, "-t", "a spoon", "-t", "the saucer", "--map-format", "npy",
        "--half-life", 0, "--no-normalise", "-o", "out",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert names(tmp_path / "out") == sorted(
        [
            "clip_a-spoon.mp4", "clip_a-spoon_map.npy", "clip_the-saucer.mp4", "clip_the-saucer_map.npy",
            "coffee_a-spoon.png", "coffee_a-spoon_map.npy", "coffee_sheet.png", "coffee_the-saucer.png",
            "coffee_the-saucer_map.npy",
        ]
    )  # fmt: skip
    assert sorted(out.split()) == sorted(f"out/{name}" for name in names(tmp_path / "out"))
    sources = frames_of(video)
    for text in ("a spoon", "the saucer"):
        maps = np.load(tmp_path / "out" / f"clip_{text.replace(' ', '-')}_map.npy")
        vectors = predictor.embed([text])
        expected = np.stack([predictor.grids(image, vectors)[0] for image in sources])
        assert maps.dtype == np.float32
        assert maps.shape == (COUNT, *expected.shape[1:])
        np.testing.assert_allclose(maps, expected, atol=1e-5)
    first, second = (frames_of(tmp_path / "out" / f"clip_{name}.mp4") for name in ("a-spoon", "the-saucer"))
    assert len(first) == len(second) == COUNT
    assert np.abs(first[0].astype(int) - second[0]).max() > 60


def test_stabilised_maps_change_less(run, video, tmp_path):
    assert run("predict", video, "--map-format", "npy", "-o", "steady")[0] == 0
    options = ("--half-life", 0, "--no-normalise")
    assert run("predict", video, "--map-format", "npy", "-o", "bare", *options)[0] == 0
    steady, bare = (np.load(tmp_path / folder / "clip_free-viewing_map.npy") for folder in ("steady", "bare"))
    assert steady.shape == bare.shape
    assert steady.min() >= 0
    assert steady.max() <= 1
    assert np.abs(np.diff(steady, axis=0)).mean() < 0.9 * np.abs(np.diff(bare, axis=0)).mean()


def test_every_nth_frame(run, video, tmp_path):
    options = ("--every", 5, "--half-life", 0, "--no-normalise", "--map-format", "npy", "--json")
    code, out, _ = run("predict", video, "a spoon", *options)
    assert code == 0
    *lines, last = (json.loads(line) for line in out.splitlines())
    assert [line["index"] for line in lines] == [0, 5, 10]
    assert last["frames"] == COUNT
    maps = np.load(tmp_path / "clip_a-spoon_map.npy")
    same = [np.array_equal(maps[n], maps[n - 1]) for n in range(1, COUNT)]
    assert same == [n % 5 != 0 for n in range(1, COUNT)]


def test_json(run, video, tmp_path):
    code, out, err = run("predict", video, "a spoon", "--json", "--map-format", "npy")
    assert (code, err) == (0, "")
    *lines, last = (json.loads(line) for line in out.splitlines())
    assert last == {
        "schema_version": 1,
        "type": "summary",
        "file": str(video),
        "frames": COUNT,
        "files": {"overlay": ["clip_a-spoon.mp4"], "map": ["clip_a-spoon_map.npy"]},
    }
    assert [line["index"] for line in lines] == list(range(COUNT))
    for line in lines:
        assert set(line) == {
            "schema_version", "type", "file", "index", "time", "width", "height", "text", "peak", "peaks", "text_effect",
            "milliseconds", "device", "bundle",
        }  # fmt: skip
        assert line["file"] == str(video)
        assert (line["width"], line["height"]) == SIZE
    assert names(tmp_path) == ["clip.avi", "clip_a-spoon.mp4", "clip_a-spoon_map.npy"]


@pytest.mark.parametrize("output", ["o.png", "o.npy", "o.jpg", "o.wmv"])
def test_wrong_suffix_for_a_video(run, video, output, tmp_path):
    code, out, err = run("predict", video, "x", "-o", output)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {output} does not fit {video}: one of .avi, ")
    assert names(tmp_path) == ["clip.avi"]


@pytest.mark.parametrize("output", ["o.mp4", "o.gif"])
def test_wrong_suffix_for_an_image(run, output, tmp_path):
    code, _, err = run("predict", samples.path("coffee"), "x", "-o", output)
    assert code == 1
    assert "does not fit" in err
    assert list(tmp_path.iterdir()) == []


def test_input_is_not_overwritten(run, tmp_path):
    video = coffee_video(tmp_path / "clip_x.mp4", code="mp4v")
    before = video.read_bytes()
    code, _, err = run("predict", video, "x", "-o", video)
    assert code == 1
    assert "is an input" in err
    # The name that the other input's overlay would get.
    other = coffee_video(tmp_path / "clip.avi", count=2)
    assert run("predict", other, video, "-t", "x")[0] == 0
    assert video.read_bytes() == before
    assert names(tmp_path) == ["clip.avi", "clip_x-2.mp4", "clip_x.mp4", "clip_x_x.mp4"]


def test_map_of_a_video_as_png_is_refused(run, video):
    for options in (["--map"], ["--map-format", "png", "--map"]):
        code, _, err = run("predict", video, "x", *options)
        assert code == 2
        assert "--map-format npy" in " ".join(err.split())


def test_bad_image_does_not_keep_videos_back(run, video, tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "empty.avi").touch()
    code, out, err = run("predict", "empty.jpg", "empty.avi", video, "a spoon")
    assert (code, out) == (1, "clip_a-spoon.mp4\n")
    lines = err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("error: empty.jpg is empty")
    assert lines[1].startswith("error: empty.avi")
    assert lines[2] == "error: 2 of 3 images and videos could not be used; the others were written"


def test_folder_of_images_and_videos(run, video, tmp_path):
    (tmp_path / "in").mkdir()
    video.rename(tmp_path / "in/clip.avi")
    (tmp_path / "in/cup.jpg").write_bytes(samples.path("coffee").read_bytes())
    (tmp_path / "in/notes.txt").write_text("none of both")
    code, out, err = run("predict", "in", "a spoon", "-o", "out")
    assert (code, err) == (0, "")
    assert out.split() == ["out/cup_a-spoon.png", "out/clip_a-spoon.mp4"]


def test_one_of_two_videos_is_broken(run, video, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"\x00\x01\x02\x03" * 500)
    code, out, err = run("predict", "broken.mp4", video, "x")
    assert (code, out) == (1, "clip_x.mp4\n")
    first, last = err.splitlines()
    assert first.startswith("error: broken.mp4 cannot be opened as a video")
    assert last == "error: 1 of 2 videos could not be used; the others were written"
    code, out, err = run("predict", "broken.mp4", "x")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1


def test_video_that_is_cut_off_is_noted(run, tmp_path):
    whole = coffee_video(tmp_path / "whole.avi", count=40)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    code, _, err = run("predict", cut, "x")
    assert code == 0
    with open_source(cut) as source:
        told, found = source.count, sum(1 for _ in source)
    assert 0 < found < 30
    assert found < 0.95 * told
    assert err == f"note: {cut} ended after {found} of about {told} frames: is it damaged or incomplete?\n"


def test_break_down_in_the_middle_goes_on_with_the_next(run, video, tmp_path, monkeypatch):
    coffee_video(tmp_path / "a.avi")
    real = VideoFile.__next__

    def breaks(self):
        frame = real(self)
        if self.name.endswith("a.avi") and frame.index == 4:
            raise SourceError("a.avi broke off")
        return frame

    monkeypatch.setattr(VideoFile, "__next__", breaks)
    code, out, err = run("predict", "a.avi", video, "x")
    assert (code, out) == (1, "clip_x.mp4\n")
    assert err.splitlines()[0] == "error: a.avi broke off"
    # What was there until then can be played.
    monkeypatch.undo()
    assert len(frames_of(tmp_path / "a_x.mp4")) == 4


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path, stop):
    video = coffee_video(tmp_path / "clip.avi", count=3000)
    process = subprocess.Popen(
        [
            sys.executable, "-m", "salgan_edge", "predict", str(video), "x", "--json",
            "--map-format", "npy", "-o", str(tmp_path / "out"),
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for number in range(8):
        assert json.loads(process.stdout.readline())["index"] == number
    process.send_signal(stop)
    _, err = process.communicate(timeout=LONG)
    assert process.returncode == 128 + stop
    assert "Traceback" not in err
    assert f"{tmp_path / 'out' / 'clip_x.mp4'} holds the frames up to here\n" in err
    assert names(tmp_path / "out") == ["clip_x.mp4", "clip_x_map.npy"]
    images = frames_of(tmp_path / "out" / "clip_x.mp4")
    assert 8 <= len(images) < 3000
    assert abs(len(np.load(tmp_path / "out" / "clip_x_map.npy")) - len(images)) <= 1


def test_progress_bar_on_a_terminal_only(run, video, monkeypatch):
    assert run("predict", video, "x")[2] == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, out, err = run("predict", video, "x")
    assert out == "clip_x.mp4\n"
    assert "clip.avi" in err
    assert "12/12" in err


def test_progress_bar_without_a_length(run, video, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(VideoFile, "count", property(lambda _: None, lambda *_: None))
    assert "100%" not in run("predict", video, "x")[2]


@pytest.mark.parametrize("frames", [0, 1])
def test_only_what_was_begun_is_named_when_interrupted(run, video, monkeypatch, frames):
    left = [None] * frames

    def write(*_):
        if not left:
            raise KeyboardInterrupt
        left.pop()

    monkeypatch.setattr(JsonLines, "write", write)
    code, _, err = run("predict", video, "x", "-o", "x.mp4")
    assert code == 130
    assert ("x.mp4 holds the frames up to here\n" in err) == bool(frames)


# As a library


class Flat:
    """A predictor whose maps tell the number of the call."""

    device = "cpu"

    def __init__(self) -> None:
        self.calls = 0

    def embed(self, texts):
        return np.zeros((len(texts), 1), np.float32)

    def grids(self, _image, vectors):
        self.calls += 1
        return np.full((len(vectors), 2, 3), self.calls / 100, np.float32)


def test_maps_of_an_interrupted_video_are_whole(video, tmp_path):
    def progress(_result):
        progress.count += 1
        if progress.count == 5:
            raise KeyboardInterrupt

    progress.count = 0
    source = open_source(video)
    with pytest.raises(KeyboardInterrupt):
        overlay_video(
            source, Plan(Flat(), 1, 1), ["a", "b"], [tmp_path / "a.mp4", tmp_path / "b.mp4"],
            maps=[tmp_path / "a.npy", tmp_path / "b.npy"], progress=progress,
        )  # fmt: skip
    for name in ("a", "b"):
        assert np.load(tmp_path / f"{name}.npy")[:, 0, 0] == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.05])
        assert len(frames_of(tmp_path / f"{name}.mp4")) == 5
    with pytest.raises(StopIteration):
        next(source)


def test_nothing_is_left_of_a_video_that_cannot_be_begun(video, tmp_path):
    class Broken(Flat):
        def grids(self, _image, _vectors):
            raise OutputError("broken")

    with pytest.raises(OutputError, match="broken"):
        overlay_video(
            open_source(video), Plan(Broken(), 1, 1), ["a"], [tmp_path / "a.mp4"], maps=[tmp_path / "a.npy"],
            progress=lambda _: None,
        )  # fmt: skip
    assert names(tmp_path) == ["clip.avi"]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_closed_terminal_interrupts_unless_that_is_ignored():

    def close_terminal():
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(LONG)

    # Not what the tests were started with: nohup ignores it.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with stoppable(), pytest.raises(Stopped):
            close_terminal()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
