"""Sources of frames: files, simulated cameras, a real MJPEG server on this machine, pipes."""

from __future__ import annotations

import io
import math
import os
import struct
import subprocess
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import (
    HEIGHT,
    LONG,
    WIDTH,
    Server,
    drawn,
    have_ended,
    in_thread,
    jpeg,
    number_of,
    png,
    write_video,
)
from PIL import Image

from salgan_edge.errors import SourceError
from salgan_edge.video import capture as cap
from salgan_edge.video import files, pipe, sources
from salgan_edge.video.files import ImageFiles, VideoFile
from salgan_edge.video.frames import Handover, without_secrets
from salgan_edge.video.sources import LiveSource, is_video, kind_of, open_source, played_live, read_pipe


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return {
        "avi": write_video(folder / "a.avi"),
        "mp4": write_video(folder / "a.mp4", code="mp4v"),
        "mkv": write_video(folder / "a.mkv", code="mp4v"),
    }


class Notices(list):
    """Lines, and a way to wait for one."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def __call__(self, line: str) -> None:
        assert "\n" not in line
        with self._changed:
            self.append(line)
            self._changed.notify_all()

    def wait_for(self, part: str) -> str:
        with self._changed:
            assert self._changed.wait_for(lambda: any(part in line for line in self), LONG), (
                part,
                list(self),
            )
            return next(line for line in self if part in line)


# Handing over


@pytest.mark.parametrize(("places", "left"), [(1, [4]), (3, [2, 3, 4])])
def test_newest_replaces_and_counts(places, left):
    slot = Handover[int](places, newest=True)
    assert all(slot.put(number) for number in range(5))
    assert slot.dropped == 5 - places
    assert [slot.get() for _ in left] == left
    with pytest.raises(TimeoutError):
        slot.get(timeout=0.01)


def test_no_capacity():
    with pytest.raises(ValueError, match="1 or more"):
        Handover[int](0, newest=True)


def test_lossless_waits_and_keeps_order():
    slot = Handover[int](2, newest=False)
    put: list[int] = []

    def producer():
        for number in range(200):
            assert slot.put(number)
            put.append(number)
        slot.finish()

    thread = in_thread(producer)
    got = []
    for number in slot:
        got.append(number)
        # Two places, one item in the producer's hand, and this one.
        assert len(put) <= len(got) + 3
    thread.join(LONG)
    assert got == list(range(200))
    assert slot.dropped == 0


def test_finish_drains_then_ends():
    slot = Handover[int](newest=False)
    slot.put(7)
    slot.finish()
    assert slot.put(8) is False
    assert slot.get() == 7
    for _ in range(2):
        with pytest.raises(EOFError):
            slot.get()
    assert list(slot) == []


@pytest.mark.parametrize("newest", [True, False])
def test_failure_comes_after_waiting_items_or_at_once_where_only_the_newest_counts(newest):
    slot = Handover[int](newest=newest)
    slot.put(7)
    slot.fail(SourceError("broken"))
    if not newest:
        assert slot.get() == 7
    for _ in range(2):
        with pytest.raises(SourceError, match="broken"):
            slot.get()
    assert slot.dropped == newest


@pytest.mark.parametrize("newest", [True, False])
def test_close_lets_both_sides_go(newest):
    slot = Handover[int](newest=newest)
    ends: list[object] = []
    getter = in_thread(lambda: ends.append(list(slot)))
    slot.close()
    getter.join(LONG)
    assert ends == [[]]
    assert slot.put(1) is False

    full = Handover[int](newest=False)
    full.put(0)
    putter = in_thread(lambda: ends.append(full.put(1)))
    full.close()
    full.close()
    putter.join(LONG)
    assert ends == [[], False]
    assert full.dropped == 1


# Videos


@pytest.mark.parametrize("kind", ["avi", "mp4", "mkv"])
def test_every_frame_of_a_video_in_order(videos, kind):
    before = time.monotonic()
    with open_source(videos[kind]) as source:
        assert (source.count, source.size, source.live, source.dropped) == (40, (WIDTH, HEIGHT), False, 0)
        assert source.fps == pytest.approx(20)
        assert source.name == str(videos[kind])
        frames = list(source)
    assert [number_of(frame.image) for frame in frames] == list(range(40))
    assert [frame.index for frame in frames] == list(range(40))
    assert [frame.time for frame in frames] == pytest.approx([n / 20 for n in range(40)], abs=1e-3)
    stamps = [frame.captured for frame in frames]
    assert before <= stamps[0]
    assert stamps == sorted(stamps)
    assert stamps[-1] <= time.monotonic()


def test_chosen_rate_replaces_time_stamps(videos):
    with open_source(videos["avi"], fps=5) as source:
        assert source.fps == 5
        assert [next(source).time for _ in range(3)] == [0, 0.2, 0.4]


def test_uneven_time_stamps_are_kept(tmp_path):
    """An animated GIF that shows its frames for 100, 400, 100 and 250 ms."""
    images = [Image.fromarray(drawn(number)) for number in (1, 2, 3, 4)]
    images[0].save(
        tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=[100, 400, 100, 250], loop=0
    )
    with open_source(tmp_path / "a.gif") as source:
        frames = list(source)
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.5, 0.6])
    assert [number_of(frame.image) for frame in frames] == [1, 2, 3, 4]


class Lying:
    """A capture that tells other properties than its file."""

    def __init__(self, path: str, lies: dict[int, float]) -> None:
        self._capture = cv2.VideoCapture(path)
        self._lies = lies

    def get(self, name: int) -> float:
        return self._lies.get(name, self._capture.get(name))

    def __getattr__(self, name: str):
        return getattr(self._capture, name)


@pytest.mark.parametrize("told", [0.0, math.nan, math.inf, -1.0, 90000.0])
def test_rate_of_a_lying_container_is_measured(videos, monkeypatch, told):
    lies = {cv2.CAP_PROP_FPS: told, cv2.CAP_PROP_FRAME_COUNT: 1e12}
    monkeypatch.setattr(files, "open_capture", lambda path, *_: Lying(path, lies))
    with VideoFile(videos["avi"]) as source:
        assert source.fps == pytest.approx(20)
        assert source.count is None
        assert [frame.time for frame in source] == pytest.approx([n / 20 for n in range(40)], abs=1e-3)


@pytest.mark.parametrize("stamp", [0.0, math.nan, -5.0])
def test_time_goes_on_without_time_stamps(videos, monkeypatch, stamp):
    monkeypatch.setattr(files, "open_capture", lambda path, *_: Lying(path, {cv2.CAP_PROP_POS_MSEC: stamp}))
    with VideoFile(videos["avi"]) as source:
        assert [frame.time for frame in source] == pytest.approx([n / 20 for n in range(40)])


def test_rotated_video_stands_upright(videos, tmp_path):
    """The matrix in the track header, as phones write it, turned by 90 degrees."""
    data = bytearray(videos["mp4"].read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    assert struct.unpack(">9i", data[at : at + 36]) == (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    data[at : at + 36] = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    (tmp_path / "turned.mp4").write_bytes(data)
    with open_source(tmp_path / "turned.mp4") as source:
        assert source.size == (HEIGHT, WIDTH)
        frame = next(source)
    # Turned clockwise, the red band at the top comes to the right.
    assert number_of(np.ascontiguousarray(np.rot90(frame.image))) == 0


@pytest.mark.parametrize("kind", ["avi", "mkv"])
def test_truncated_video_ends_where_it_breaks(videos, tmp_path, kind):
    data = videos[kind].read_bytes()
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(data[: len(data) // 2])
    with open_source(path) as source:
        numbers = [number_of(frame.image) for frame in source]
    assert 5 < len(numbers) < 40
    # What the cut left of the last frame may be grey.
    assert numbers[:-1] == list(range(len(numbers) - 1))


@pytest.mark.parametrize(
    ("kind", "length", "message"),
    [
        (
            "mp4",
            lambda data: len(data) // 2,
            r"cannot be opened as a video \(tried .*ffmpeg.*\): it is damaged",
        ),
        (
            "avi",
            lambda data: data.index(b"movi") + 4,
            r"(was opened but holds no readable frame|cannot be opened)",
        ),
    ],
    ids=["without its index", "without frames"],
)
def test_video_that_cannot_be_read(videos, tmp_path, kind, length, message):
    data = videos[kind].read_bytes()
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(data[: length(data)])
    with pytest.raises(SourceError, match=rf"cut\.{kind} {message}"):
        open_source(path)


def test_unreadable_files_say_why(tmp_path):
    (tmp_path / "empty.mp4").touch()
    # Its first 4096 bytes end inside a character.
    (tmp_path / "words.txt").write_text("x" + "ä" * 4000)
    (tmp_path / "noise.bin").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "sub").mkdir()
    for spec, message in {
        "empty.mp4": r"empty\.mp4 is empty \(0 bytes\): a video was expected",
        "words.txt": r"words\.txt is a text file: a video was expected",
        "noise.bin": r"noise\.bin cannot be opened as a video",
        "sub": r"sub holds no images: files ending in \.bmp",
        "no.mp4": r"no\.mp4 does not exist: a camera's number",
        "x" * 5000: "does not exist",
        "zero\0": "does not exist",
    }.items():
        with pytest.raises(SourceError, match=message) as raised:
            open_source(str(tmp_path / spec))
        assert "\n" not in str(raised.value)
    with pytest.raises(SourceError, match="sub is a folder: a video file was expected"):
        VideoFile(tmp_path / "sub")
    with pytest.raises(SourceError, match=r"no\.mp4 does not exist: give the path of a video"):
        VideoFile(tmp_path / "no.mp4")


def test_colon_in_a_name(videos, tmp_path, monkeypatch):
    (tmp_path / "rtsp:a.avi").write_bytes(videos["avi"].read_bytes())
    monkeypatch.chdir(tmp_path)
    with open_source("rtsp:a.avi") as source:
        assert number_of(next(source).image) == 0


@pytest.mark.parametrize("kind", ["video", "image"])
def test_closing_a_file_ends_the_iteration(videos, tmp_path, kind):
    (tmp_path / "a.png").write_bytes(png(5))
    source = open_source(videos["avi"] if kind == "video" else tmp_path / "a.png")
    if kind == "video":
        next(source)
    in_thread(source.close).join(LONG)
    source.close()
    assert list(source) == []


def test_ffmpeg_is_silent_with_opencv(videos, tmp_path):
    """What the decoder says of damaged data goes past OpenCV's log."""
    data = bytearray(videos["mkv"].read_bytes())
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    (tmp_path / "bad.mp4").write_bytes(videos["mp4"].read_bytes()[:3000])
    code = (
        "import sys\nfrom salgan_edge.video.sources import open_source\n"
        "print(len(list(open_source(sys.argv[1]))))\n"
        "try:\n    open_source(sys.argv[2])\nexcept ValueError:\n    pass"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cut.mkv"), str(tmp_path / "bad.mp4")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")}
    loud = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert loud.stderr
    quiet = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment | {"OPENCV_LOG_LEVEL": "OFF"}
    )
    assert quiet.stderr == ""
    assert quiet.stdout == loud.stdout.splitlines()[-1] + "\n"


# Images


def test_folder_of_images_in_natural_order(tmp_path):
    for number in (1, 2, 10, 11, 100):
        (tmp_path / f"Frame{number}.PNG").write_bytes(png(number))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "3.png").write_bytes(png(3))
    with open_source(str(tmp_path), fps=10) as source:
        assert (source.count, source.size, source.fps, source.live) == (5, (WIDTH, HEIGHT), 10, False)
        frames = list(source)
    assert [number_of(frame.image) for frame in frames] == [1, 2, 10, 11, 100]
    assert [frame.name for frame in frames] == [f"Frame{n}.PNG" for n in (1, 2, 10, 11, 100)]
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]


def test_damaged_image_is_named(tmp_path):
    (tmp_path / "1.jpg").write_bytes(jpeg(1))
    (tmp_path / "2.jpg").write_bytes(jpeg(2)[:-300])
    source = open_source(tmp_path)
    next(source)
    with pytest.raises(SourceError, match=r"2\.jpg is truncated"):
        next(source)
    with pytest.raises(SourceError, match=r"2\.jpg is truncated"):
        ImageFiles([tmp_path / "2.jpg"], name="a list")
    with pytest.raises(SourceError, match="a list holds no images"):
        ImageFiles([], name="a list")


# Live sources over simulated cameras


class Camera:
    """Gives numbered images when it is told to; None counts as lost, an exception is raised."""

    def __init__(self, *given: object) -> None:
        self.fps = 50.0
        self.opened = 0
        self.closed = 0
        self.reads = 0
        self._given: list[object] = []
        self._changed = threading.Condition()
        self.give(*given)

    def __call__(self) -> Camera:
        self.opened += 1
        return self

    def give(self, *given: object) -> None:
        with self._changed:
            self._given += given
            self._changed.notify_all()

    def wait_for_reads(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.reads >= count, LONG)

    def read(self):
        with self._changed:
            self.reads += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._given)
            given = self._given.pop(0)
        if isinstance(given, Exception):
            raise given
        return None if given is None else (drawn(given), 100 + given / 50)

    def close(self) -> None:
        self.closed += 1


def test_only_the_newest_frame_is_delivered():
    camera = Camera(0)
    source = LiveSource(camera, name="camera")
    assert (source.live, source.fps, source.size) == (True, 50, (WIDTH, HEIGHT))
    delivered = []
    for last in (0, 1, 6, 20):
        start = delivered[-1].index + 1 if delivered else 1
        camera.give(*range(start, last + 1))
        # The read after the last image has begun: all before were handed over.
        camera.wait_for_reads(last + 2)
        delivered.append(next(source))
    assert [number_of(frame.image) for frame in delivered] == [0, 1, 6, 20]
    assert [frame.index for frame in delivered] == [0, 1, 6, 20]
    assert [frame.captured for frame in delivered] == [100, 100.02, 100.12, 100.4]
    assert [frame.time for frame in delivered] == pytest.approx([0, 0.02, 0.12, 0.4])
    assert source.dropped + len(delivered) == 21
    camera.give(EOFError())
    assert list(source) == []
    source.close()
    assert camera.closed == 1


def test_lossless_reading_waits_for_the_consumer():
    camera = Camera(*range(10), EOFError())
    source = LiveSource(camera, name="pipe", newest=False, fps=4)
    assert source.live is False
    # One image waits, one is in the thread's hand.
    camera.wait_for_reads(2)
    assert camera.reads <= 2
    frames = []
    for frame in source:
        frames.append(frame)
        assert camera.reads <= len(frames) + 2
    assert [number_of(frame.image) for frame in frames] == list(range(10))
    assert [frame.time for frame in frames] == [n / 4 for n in range(10)]
    assert source.dropped == 0


@pytest.fixture
def quick(monkeypatch):
    """Short pauses between attempts."""
    monkeypatch.setattr(sources, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(sources, "_LONGEST_PAUSE", 0.04)


@pytest.mark.usefixtures("quick")
def test_lost_camera_comes_back():
    notices = Notices()
    camera = Camera()
    outcomes = [[0], SourceError("no camera"), [None], SourceError("no camera"), [1]]

    def opener():
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        camera.give(*outcome)
        return camera()

    with LiveSource(opener, name="camera 0", notice=notices) as source:
        assert next(source).index == 0
        camera.give(None)
        frame = next(source)
        assert (frame.index, number_of(frame.image)) == (1, 1)
        notices.wait_for("camera 0 is back after ")
        camera.give(EOFError())
    assert notices[:4] == [
        "lost camera 0; trying again in 0.01 s",
        "still no camera 0; trying again in 0.02 s",
        "still no camera 0; trying again in 0.04 s",
        "still no camera 0; trying again in 0.04 s",
    ]
    # The first time, the one that gave nothing, and the last.
    assert camera.opened == 3


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("patience", [0, 0.1])
def test_patience_runs_out(patience):
    camera = Camera(0, None)

    def opener():
        if camera.opened:
            raise SourceError("the plug is out")
        return camera()

    notices = Notices()
    source = LiveSource(opener, name="camera 0", patience=patience, notice=notices)
    match = f"camera 0 was lost and did not come back within {patience:g} s: " + (
        "the plug is out" if patience else ""
    )
    with pytest.raises(SourceError, match=match):
        list(source)
    assert len(notices) >= 3 if patience else not notices
    source.close()
    assert camera.closed == 1


def test_first_opening_is_tried_once():
    tried = []

    def opener():
        tried.append(1)
        raise SourceError("no such camera")

    with pytest.raises(SourceError, match="no such camera"):
        LiveSource(opener, name="camera 0")
    for nothing in (None, EOFError()):
        camera = Camera(nothing)
        with pytest.raises(SourceError, match="camera 0 gives no frame"):
            LiveSource(camera, name="camera 0")
        assert (camera.opened, camera.closed) == (1, 1)
    assert tried == [1]


def test_unexpected_failure_is_raised_where_frames_are_taken():
    camera = Camera(0)
    source = LiveSource(camera, name="camera")
    next(source)
    camera.give(ZeroDivisionError("a defect"))
    with pytest.raises(ZeroDivisionError, match="a defect"):
        next(source)
    assert have_ended(f"source {source.name}")
    assert camera.closed == 1


def test_close_while_waiting_for_a_frame(monkeypatch):
    """The reader hangs in the camera, the consumer in the source; the thread goes when the camera lets it."""
    monkeypatch.setattr(sources, "_LONGEST_JOIN", 0.05)
    camera = Camera(0)
    source = LiveSource(camera, name="camera")
    got: list[list[object]] = []
    waiting = in_thread(lambda: got.append(list(source)))
    camera.wait_for_reads(2)
    before = time.monotonic()
    source.close()
    source.close()
    waiting.join(LONG)
    assert time.monotonic() - before < 5
    assert len(got) == 1
    assert len(got[0]) <= 1
    assert camera.closed == 0
    camera.give(1)
    assert have_ended(f"source {source.name}")
    assert camera.closed == 1


def test_close_while_pausing(monkeypatch):
    monkeypatch.setattr(sources, "_FIRST_PAUSE", 1000)
    notices = Notices()
    camera = Camera(0, None)
    source = LiveSource(camera, name="camera", notice=notices)
    notices.wait_for("trying again")
    source.close()
    assert have_ended(f"source {source.name}")
    assert (camera.opened, camera.closed) == (1, 1)


@pytest.mark.usefixtures("quick")
def test_close_while_opening_again(monkeypatch):
    monkeypatch.setattr(sources, "_LONGEST_JOIN", 0.05)
    entered, free = threading.Event(), threading.Event()
    first, second = Camera(0, None), Camera(1)
    notices = Notices()

    def opener():
        if not first.opened:
            return first()
        entered.set()
        assert free.wait(LONG)
        return second()

    source = LiveSource(opener, name="camera", notice=notices)
    assert entered.wait(LONG)
    source.close()
    assert second.opened == 0
    free.set()
    assert have_ended(f"source {source.name}")
    assert (first.closed, second.closed) == (1, 1)
    assert not any("back" in line for line in notices)


def test_stuck_reader_does_not_hold_the_process():
    code = (
        "import threading, numpy\nfrom salgan_edge.video.sources import LiveSource\n"
        "class Stuck:\n"
        "    first = True\n"
        "    def read(self):\n"
        "        if not self.first: threading.Event().wait()\n"
        "        self.first = False\n"
        "        return numpy.zeros((4, 4, 3), 'uint8'), 0.0\n"
        "    def close(self): pass\n"
        "source = LiveSource(Stuck, name='stuck')\nnext(source)\nprint('done')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LONG
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


# Files as cameras


def test_video_played_live(tmp_path):
    path = write_video(tmp_path / "a.avi", 12)
    with open_source(path, live=True) as source:
        assert (source.live, source.fps, source.count, source.name) == (True, 20, 12, str(path))
        frames = [next(source)]
        started = frames[0].captured
        frames += list(source)
    for frame in frames:
        assert number_of(frame.image) == frame.index
        # Not before its time; how much later depends on the machine.
        assert frame.captured - started >= (frame.index - frames[0].index) / 20 - 0.06
    assert frames[-1].index == 11
    assert source.dropped + len(frames) == 12


def test_closing_does_not_wait_for_the_next_image(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    source = open_source(tmp_path, live=True, fps=0.001)
    assert number_of(next(source).image) == 0
    waiting = in_thread(lambda: list(source))
    source.close()
    waiting.join(LONG)
    assert not waiting.is_alive()
    assert have_ended(f"source {source.name}")


def test_slow_consumer_of_a_played_file_gets_the_newest(videos):
    gate = threading.Event()
    with played_live(VideoFile(videos["avi"], fps=1000)) as source:
        assert have_ended(f"source {source.name}")
        gate.set()
        frames = list(source)
    assert [frame.index for frame in frames] == [39]
    assert source.dropped == 39


# A network camera on this machine


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


@pytest.mark.usefixtures("quick")
def test_network_camera_dies_and_returns(server):
    notices = Notices()
    with open_source(f"http://me:secret@127.0.0.1:{server.port}/live?token=hidden", notice=notices) as source:
        assert source.live
        assert source.size == (WIDTH, HEIGHT)
        name = f"http://***@127.0.0.1:{server.port}/live?token=***"
        assert source.name == name
        frames = [next(source) for _ in range(10)]
        numbers = [number_of(frame.image) for frame in frames]
        assert numbers == sorted(set(numbers))
        assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})
        assert all(0 <= time.monotonic() - frame.captured < LONG for frame in frames)
        server.stop()
        notices.wait_for(f"lost {name}; trying again in ")
        died = server.number
        notices.wait_for(f"still no {name}; trying again in ")
        server.start()
        notices.wait_for(f"{name} is back after ")
        for frame in source:
            if number_of(frame.image) >= died:
                break
        assert frame.index > frames[-1].index
        assert frame.time > frames[-1].time
    assert server.asked == ["/live?token=hidden"] * 2
    assert not any("secret" in line or "hidden" in line for line in notices)
    assert have_ended(f"source {source.name}")


def test_network_errors_are_one_line_without_password(server):
    port = server.port
    with pytest.raises(SourceError, match="check that") as raised:
        open_source(f"http://me:se@cr/et@127.0.0.1:{port}/page?password=topsy")
    assert f"***@127.0.0.1:{port}/page?password=***" in str(raised.value)
    server.stop()
    with pytest.raises(
        SourceError, match=r"cannot open rtsp://\*\*\*@127.* \(tried ffmpeg, waiting up to 5 s\): check that"
    ) as gone:
        open_source(f"rtsp://me:topsy@127.0.0.1:{port}/x")
    for error in (raised, gone):
        text = "".join([str(error.value), repr(error.value.__cause__), repr(error.value.__context__)])
        assert "topsy" not in text
        assert "\n" not in str(error.value)


def test_silent_stream_is_noticed(monkeypatch):
    """Something listens and never answers."""
    import socket

    monkeypatch.setattr(cap, "STREAM_TIMEOUT", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        before = time.monotonic()
        with pytest.raises(SourceError, match="cannot open http://127"):
            open_source(f"http://127.0.0.1:{silent.getsockname()[1]}/x")
        assert time.monotonic() - before < 5


def test_rtsp_over_tcp_unless_the_user_chose(monkeypatch):
    monkeypatch.setattr(cap, "open_capture", lambda *_: cv2.VideoCapture())
    monkeypatch.delenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", raising=False)
    cap.open_address("http://127.0.0.1/x", "auto")
    assert "OPENCV_FFMPEG_CAPTURE_OPTIONS" not in os.environ
    cap.open_address("RTSP://127.0.0.1/x", "auto")
    assert os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] == "rtsp_transport;tcp"
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;udp")
    cap.open_address("rtsp://127.0.0.1/x", "auto")
    assert os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] == "rtsp_transport;udp"


def test_recording_at_an_address(videos, tmp_path):
    """A video behind HTTP is read like a file: every frame, then the end."""
    from functools import partial
    from http.server import SimpleHTTPRequestHandler

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "a.mkv").write_bytes(videos["mkv"].read_bytes())
    web = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = in_thread(web.serve_forever, 0.02)
    try:
        with open_source(f"http://127.0.0.1:{web.server_address[1]}/a.mkv") as source:
            assert not source.live
            assert [number_of(frame.image) for frame in source] == list(range(40))
    finally:
        web.shutdown()
        web.server_close()
        thread.join(LONG)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://me:secret@host:554/live", "rtsp://***@host:554/live"),
        ("RTSP://me:se@cr/et@host/live", "RTSP://***@host/live"),
        ("rtsp://me@host/live", "rtsp://***@host/live"),
        ("rtsp://host/user=me_password=secret_channel=1/x", "rtsp://host/user=***/x"),
        ("http://host/x?usr=me&pwd=secret&channel=1", "http://host/x?usr=***&pwd=***&channel=1"),
        ("http://host/live?channel=1", "http://host/live?channel=1"),
        ("rtspsrc location=rtsp://me:secret@host/x ! appsink", "***@host/x ! appsink"),
    ],
)
def test_secrets_are_hidden(address, shown):
    assert without_secrets(address) == shown


# Cameras, as far as a machine without one goes


@pytest.fixture
def dev(tmp_path, monkeypatch):
    monkeypatch.setattr(cap, "_DEV", tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    return tmp_path


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ((), r"cannot open camera 77 \(tried .+\): this machine has no /dev/video\*"),
        (("video2", "video10", "video1x"), r"video77 does not exist; there are \S+/video2, \S+/video10$"),
        (("video77", "video78"), r"another program may be using it.*; others are \S+video78$"),
    ],
)
def test_camera_that_does_not_open(dev, there, message):
    for name in there:
        (dev / name).touch()
    with pytest.raises(SourceError, match=message) as raised:
        open_source("77")
    assert there or str(dev) not in str(raised.value)
    numbered = [name for name in there if name != "video1x"]
    assert cap.cameras_here() == [str(dev / name) for name in numbered]


def test_camera_without_permission(dev, monkeypatch):
    (dev / "video77").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SourceError, match=r"no permission on .*video77; add yourself to the group video"):
        open_source(77)


def test_camera_on_another_system(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SourceError, match="privacy settings"):
        open_source("77")


class Device:
    """Stands for an OpenCV capture of a camera that gives 640 x 480 whatever it is asked for."""

    def __init__(self, *_: object, broken: int = 0, images: int = 3) -> None:
        self.set_to: dict[int, float] = {}
        self.released = False
        self._broken, self._images = broken, images

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def set(self, name: int, value: float) -> bool:
        self.set_to[name] = value
        return True

    def get(self, name: int) -> float:
        return 30.0 if name == cv2.CAP_PROP_FPS else -1.0

    def grab(self) -> bool:
        return self._images > 0

    def retrieve(self):
        if self._broken:
            self._broken -= 1
            return False, None
        self._images -= 1
        return True, np.full((480, 640, 3), (1, 2, 3), np.uint8)

    def release(self) -> None:
        self.released = True


def test_what_a_camera_is_asked_for(monkeypatch):
    device = Device(broken=2)
    monkeypatch.setattr(cap, "open_capture", lambda *_: device)
    notices = Notices()
    capture = cap.open_camera(0, size=(1280, 720), fps=30, notice=notices)
    assert device.set_to == {
        cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"),
        cv2.CAP_PROP_FRAME_WIDTH: 1280,
        cv2.CAP_PROP_FRAME_HEIGHT: 720,
        cv2.CAP_PROP_FPS: 30,
        cv2.CAP_PROP_BUFFERSIZE: 1,
    }
    assert notices == ["camera 0 gives 640 x 480 pixels, not 1280 x 720"]
    assert capture.fps == 30
    read = [capture.read() for _ in range(4)]
    assert [image is None for image in read] == [False, False, False, True]
    assert read[0][0][0, 0].tolist() == [3, 2, 1]
    capture.close()
    assert device.released


def test_camera_without_pictures(monkeypatch, dev):
    (dev / "video5").touch()
    device = Device(images=0)
    monkeypatch.setattr(cap, "open_capture", lambda *_: device)
    with pytest.raises(
        SourceError, match=r"camera 5 was opened \(by .+\) but gives no image: another program"
    ):
        cap.open_camera(5)
    assert device.released


def test_endless_damage_counts_as_lost():
    assert cap.read_rgb_at(Device(broken=10**6)) is None


def test_frame_is_stamped_between_grab_and_decoding():
    stamps = []

    class Stamped(Device):
        def grab(self) -> bool:
            stamps.append(time.monotonic())
            return True

        def retrieve(self):
            stamps.append(time.monotonic())
            return super().retrieve()

    _, captured = cap.read_rgb_at(Stamped())
    assert stamps[0] <= captured <= stamps[1]


def test_old_image_after_a_timeout_counts_as_lost():
    class Stalled(Device):
        def grab(self) -> bool:
            time.sleep(0.02)
            return True

    stalled = Stalled()
    first = cap.read_rgb_at(stalled)
    capture = cap.DeviceCapture(stalled, first, timeout=0.01)
    assert capture.read() is first
    assert capture.read() is None
    assert cap.DeviceCapture(stalled, first, timeout=LONG).read() is not None


def test_recording_behind_a_stream_ends():
    """A live address that turns out to be a film of three frames is not opened again."""

    class Film(Device):
        def get(self, name: int) -> float:
            return 3 if name == cv2.CAP_PROP_FRAME_COUNT else super().get(name)

    film = Film()
    capture = cap.DeviceCapture(film, cap.read_rgb_at(film))
    with LiveSource(lambda: capture, name="film", newest=False) as source:
        assert len(list(source)) == 3


# Standard input


class Dribble(io.RawIOBase):
    """A pipe that gives few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__()
        self._data, self._step, self._at = data, step, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        piece = self._data[self._at : self._at + min(self._step, len(buffer))]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def with_thumbnail(number: int) -> bytes:
    """An EXIF segment that holds whole JPEG files, and one that is cut."""
    whole = jpeg(number)
    inner = jpeg(4095)
    segment = b"Exif\0\0" + inner + inner[: len(inner) // 2] + b"\xff\xd9\xff\xd8\xff\xda"
    return whole[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + whole[2:]


SEQUENCE = [
    jpeg(0),
    png(1),
    with_thumbnail(2),
    jpeg(3, progressive=True),
    png(4),
    jpeg(5, restart_marker_blocks=1),
    # Fill bytes before a marker, and a comment.
    jpeg(6)[:2] + b"\xff\xff\xff\xfe\x00\x06\xff\xd9\xff\xd8" + jpeg(6)[2:],
    jpeg(7),
]


@pytest.mark.parametrize("step", [1, 2, 7, 1000, 1 << 20])
def test_images_are_split_exactly(step):
    assert list(pipe.images_of(Dribble(b"".join(SEQUENCE), step), "pipe")) == SEQUENCE
    assert list(pipe.images_of(io.BytesIO(b"".join(SEQUENCE)), "pipe")) == SEQUENCE


def test_every_image_of_a_pipe():
    source = read_pipe(Dribble(b"".join(SEQUENCE), 777), fps=10)
    assert (source.name, source.live, source.fps, source.size) == (
        "standard input",
        False,
        10,
        (WIDTH, HEIGHT),
    )
    frames = list(source)
    assert [number_of(frame.image) for frame in frames] == list(range(8))
    assert [frame.time for frame in frames] == pytest.approx([n / 10 for n in range(8)])


@pytest.mark.parametrize(
    "between", [b"\n", b"\r\n--frame\r\nContent-Length: 5\r\n\r\n", b"\0" * 70000, b"\xff\xd8", b"\x89PNG"]
)
def test_what_stands_between_images_is_skipped(between):
    data = jpeg(1) + between + png(2) + between + jpeg(3) + between
    assert list(pipe.images_of(Dribble(data, 333), "pipe")) == [jpeg(1), png(2), jpeg(3)]


def test_damaged_images_are_skipped():
    notices = Notices()
    whole = jpeg(2)
    in_scan = whole[: whole.index(b"\xff\xda") + 40]
    in_tables = with_thumbnail(2)
    in_tables = in_tables[: in_tables.rindex(b"\xff\xc4") + 20]
    nothing_inside = b"\xff\xd8\xff\xfe\x00\x02\xff\xd9"
    data = (
        jpeg(1) + in_scan + jpeg(3) + png(4)[:60] + jpeg(5) + in_tables + jpeg(6) + nothing_inside + jpeg(7)
    )
    source = read_pipe(Dribble(data, 500), notice=notices)
    assert [number_of(frame.image) for frame in source] == [1, 3, 5, 6, 7]
    assert notices == ["a damaged image from standard input is skipped"] * 3 + [
        "image 5 from standard input cannot be decoded and is skipped"
    ]


@pytest.mark.parametrize("last", [jpeg(2)[:-1], jpeg(2)[:30], png(2)[:-1], png(2)[:50], jpeg(2)[:3]])
def test_cut_end_is_left_out(last):
    notices = Notices()
    source = read_pipe(Dribble(jpeg(1) + last, 100), notice=notices)
    assert [number_of(frame.image) for frame in source] == [1]
    assert notices == ["standard input ended in the middle of an image, which is left out"]


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        (b"", "standard input is empty"),
        (b"hello world\n", r'like text \("hello world"\)'),
        (b"\0\0\0\x18ftypmp42" + b"\0" * 300, "like an MP4 or QuickTime video"),
        (b"RIFF\1\2\3\4AVI LIST", "like an AVI video"),
        (b"\x1aE\xdf\xa3\1\2\3", "like a Matroska or WebM video"),
        ((b"G" + b"\1" * 187) * 3, "like an MPEG transport stream"),
        (b"\0\0\0\1\x67\x42", "like a raw H.264"),
        (b"GIF89a\0\0", "like a GIF image"),
        (b"\xff\xd8\xff\xfe\x00\x02\xff\xd9", "ended without one readable image"),
        (bytes(range(128, 160)), "like unknown data \\(80 81 82 83 84 85 86 87\\)"),
    ],
)
def test_something_else_in_the_pipe(begin, words):
    with pytest.raises(SourceError, match=words) as raised:
        read_pipe(Dribble(begin, 5))
    assert "`ffmpeg -i INPUT -f image2pipe -c:v mjpeg -q:v 3 -`" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_endless_image(monkeypatch):
    monkeypatch.setattr(pipe, "_LARGEST_IMAGE", 100_000)
    with pytest.raises(SourceError, match="is larger than"):
        read_pipe(Dribble(jpeg(0)[:-2] + b"\0" * 300_000, 1 << 16))


def test_terminal_instead_of_a_pipe():
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    with pytest.raises(SourceError, match="standard input is a terminal: pipe images into it"):
        read_pipe(Terminal())


def test_pipe_that_breaks():
    class Broken(Dribble):
        def readinto(self, buffer) -> int:
            if self._at >= len(self._data):
                raise OSError("the disk is gone")
            return super().readinto(buffer)

    source = read_pipe(Broken(jpeg(1), 100))
    assert number_of(next(source).image) == 1
    with pytest.raises(SourceError, match="cannot read standard input: the disk is gone"):
        next(source)


def test_newest_image_of_a_live_pipe():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file:
        with os.fdopen(writing, "wb") as end:
            end.write(jpeg(0) + jpeg(1) + jpeg(2))
            end.flush()
            source = read_pipe(file, live=True)
            # Delivered as soon as it is whole, while the pipe stays open.
            for frame in source:
                if number_of(frame.image) == 2:
                    break
            end.write(b"".join(jpeg(number) for number in range(3, 20)))
        assert have_ended(f"source {source.name}")
        last = list(source)
    assert [frame.index for frame in last] == [19]
    assert source.live
    assert source.dropped >= 16


def test_standard_input_of_a_process():
    """Through a real pipe; the process ends although a thread still waits for input."""
    code = (
        "from salgan_edge.video.sources import open_source\n"
        "source = open_source('-')\n"
        "print([next(source).index for _ in range(8)], flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(b"".join(SEQUENCE))
    process.stdin.flush()
    process.wait(LONG)
    out, error = process.communicate()
    assert (process.returncode, out, error) == (0, b"[0, 1, 2, 3, 4, 5, 6, 7]\n", b"")


# What a source is, and options that do not fit


def test_kinds(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    for spec, kind in {
        0: "camera",
        "0": "camera",
        "12": "camera",
        "./0": "video",
        Path("0"): "video",
        "/dev/video0": "camera",
        Path("/dev/video2"): "camera",
        "/dev/v4l/by-id/usb-x": "camera",
        "-": "stdin",
        "rtsp://host/x": "stream",
        "http://host/stream.mjpg": "stream",
        "http://host/live": "stream",
        "https://host/a.mp4?x=1": "video",
        "rtsp://host/a.mp4": "stream",
        "udp://@:1234": "stream",
        "v4l2src ! appsink": "stream",
        "file:///a/b.png": "image",
        "a.JPG": "image",
        "a.mov": "video",
        "anything": "video",
        str(tmp_path): "folder",
        tmp_path / "folder.mp4": "folder",
    }.items():
        assert kind_of(spec) == kind, spec
    assert is_video("A.MP4")
    assert not is_video(Path("a.png"))


def test_digits_are_a_camera_even_beside_such_a_file(tmp_path, monkeypatch, videos):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "77").write_bytes(videos["avi"].read_bytes())
    with pytest.raises(SourceError, match="camera 77"):
        open_source("77")
    with open_source("./77") as source:
        assert source.count == 40


@pytest.mark.parametrize("as_address", [False, True])
def test_one_image(tmp_path, as_address):
    path = tmp_path / "a b.png"
    path.write_bytes(png(9))
    with open_source(path.as_uri() if as_address else path) as source:
        assert source.count == 1
        assert [number_of(frame.image) for frame in source] == [9]


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("a.mp4", {"size": (640, 480)}, "a size can be asked of cameras only"),
        ("0", {"live": False}, "a camera or stream does not wait"),
        ("rtsp://h/x", {"live": False}, "a camera or stream does not wait"),
        ("rtsp://h/x", {"fps": 5}, "a stream has its own rate"),
        ("a.png", {"backend": "ffmpeg"}, "backend ffmpeg is for cameras, streams and videos"),
        ("-", {"backend": "ffmpeg"}, "backend ffmpeg is for cameras, streams and videos"),
        ("a.png", {"live": True}, "images have no rate of their own"),
        # Not tried again: it would not fit later either.
        ("0", {"fps": -1, "wait": 60}, "-1 frames per second are not possible"),
        ("a.mp4", {"fps": 0}, "0 frames per second are not possible"),
        ("a.mp4", {"fps": math.nan}, "nan frames per second are not possible"),
    ],
)
def test_options_that_do_not_fit(spec, options, message):
    with pytest.raises(SourceError, match=message):
        open_source(spec, **options)


def test_backends_by_name(videos):
    with open_source(videos["avi"], backend="FFmpeg") as source:
        assert number_of(next(source).image) == 0
    present = ", ".join(["auto", *cap.available("stream")])
    with pytest.raises(
        SourceError, match=f"nothing is no backend of this OpenCV: for videos and streams it has {present}$"
    ):
        open_source(videos["avi"], backend="nothing")
    present = ", ".join(["auto", *cap.available("camera")])
    with pytest.raises(
        SourceError,
        match=f"cv_images cannot be used for cameras with this OpenCV: for cameras it has {present}$",
    ):
        open_source(0, backend="cv_images")


def test_pipeline_without_gstreamer():
    if "gstreamer" in cap.available("stream"):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(SourceError, match="gstreamer cannot be used for videos and streams with this OpenCV"):
        open_source("videotestsrc ! videoconvert ! appsink")
