"""Videos, read back with OpenCV's reader."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from pictures import names

from salgan_edge.errors import InputError, OutputError
from salgan_edge.video.recording import RECORDING_SUFFIXES, VideoSink

SUFFIXES = sorted(RECORDING_SUFFIXES)


def grey(level, width=64, height=48):
    return np.full((height, width, 3), level, np.uint8)


def read(path):
    """Frames in RGB, and the frame rate."""
    reader = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames = []
    while True:
        there, frame = reader.read()
        if not there:
            break
        frames.append(frame[..., ::-1])
    rate = reader.get(cv2.CAP_PROP_FPS)
    reader.release()
    return frames, rate


def levels(path):
    return [round(float(frame.mean())) for frame in read(path)[0]]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_contents_length_and_rate(tmp_path, suffix, capfd):
    """Red on the left, blue on the right, ever brighter: neither channels nor frames are mixed up."""
    path = tmp_path / f"new folder/video{suffix.upper()}"
    with VideoSink(path, 29.97, (64, 48)) as sink:
        for number in range(12):
            frame = np.zeros((48, 64, 3), np.uint8)
            frame[:, :32, 0] = frame[:, 32:, 2] = 60 + 15 * number
            sink.write(frame)
            assert not path.exists()
    frames, rate = read(path)
    assert len(frames) == sink.frames == 12
    assert rate == pytest.approx(29.97, abs=1e-3)
    for number, frame in enumerate(frames):
        assert frame[8:40, 4:24, 0].mean() == pytest.approx(60 + 15 * number, abs=12)
        assert frame[8:40, 40:60, 2].mean() == pytest.approx(60 + 15 * number, abs=12)
        assert frame[8:40, 4:24, 2].mean() < 30
    assert names(path.parent) == [path.name]
    assert path.stat().st_mode & 0o444 == 0o444
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("rate", [29.97, 30000 / 1001, 23.976, 12.5, 59.94, 7.123456])
def test_duration_of_a_thousand_frames(tmp_path, rate):
    with VideoSink(tmp_path / "a.mkv", rate, (16, 16)) as sink:
        for _ in range(1000):
            sink.write(grey(9, 16, 16))
    reader = cv2.VideoCapture(str(tmp_path / "a.mkv"), cv2.CAP_FFMPEG)
    last = 0.0
    while reader.grab():
        last = max(last, reader.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    # The last frame starts one frame before the end.
    assert abs(last - 999 / rate) < 1 / rate


@pytest.mark.parametrize("source", [10, 15, 24, 25, 30, 60])
def test_real_speed(tmp_path, source):
    """3 s of a source with jitter; each frame's level is its time: what is shown then is what was seen then."""
    random = np.random.default_rng(source)
    with VideoSink(tmp_path / "a.avi", 30, (32, 32)) as sink:
        for number in range(3 * source):
            time = 100 + (number + random.uniform(-0.3, 0.3)) / source
            sink.write(grey(round(70 * (time - 100) + 20), 32, 32), time)
    shown = levels(tmp_path / "a.avi")
    assert len(shown) == pytest.approx(90, abs=1 + 30 / source)
    assert len(shown) == sink.frames
    # A frame is up to 0.9 frames of the video early or late, and shown until the next one comes.
    for number, level in enumerate(shown):
        age = number / 30 - (level - 20) / 70
        assert -1 / 30 - 0.03 < age < 1 / 30 + 1.6 / source + 0.03
    assert (sink.skipped > 80) == (source == 60)


def test_steady_camera_is_neither_repeated_nor_left_out(tmp_path):
    """At the video's own rate, though the first frame came half a frame late."""
    random = np.random.default_rng(0)
    with VideoSink(tmp_path / "a.avi", 30, (32, 32)) as sink:
        for number in range(60):
            late = 0.5 if number == 0 else random.uniform(-0.15, 0.15)
            sink.write(grey(4 * number, 32, 32), (number + late) / 30)
    assert (sink.frames, sink.skipped) == (60, 0)


def test_gap_is_filled_with_the_frame_before(tmp_path):
    with VideoSink(tmp_path / "a.avi", 10, (32, 32)) as sink:
        sink.write(grey(40, 32, 32), 5.0)
        sink.write(grey(200, 32, 32), 6.0)
    shown = levels(tmp_path / "a.avi")
    assert len(shown) == pytest.approx(11, abs=1)
    assert all(abs(level - 40) < 5 for level in shown[:-1])
    assert abs(shown[-1] - 200) < 5


def test_time_that_jumps_back_starts_a_new_clock(tmp_path):
    """A video that is played in a loop goes on, and is not left out until its time is reached again."""
    with VideoSink(tmp_path / "a.avi", 10, (32, 32)) as sink:
        for _ in range(2):
            for number in range(10):
                sink.write(grey(9, 32, 32), number / 10)
    assert sink.frames == 20


@pytest.mark.parametrize(
    ("size", "expected"), [((65, 49), (64, 48)), ((1, 1), (16, 16)), ((1000, 3), (1000, 16))]
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_odd_and_tiny_sizes(tmp_path, suffix, size, expected):
    with VideoSink(tmp_path / f"a{suffix}", 30, size) as sink:
        for level in (60, 120, 180):
            sink.write(grey(level, *size))
    frames, _ = read(tmp_path / f"a{suffix}")
    assert sink.size == expected
    assert [frame.shape for frame in frames] == [(expected[1], expected[0], 3)] * 3
    assert all(
        abs(level - wanted) < 12 for level, wanted in zip(levels(sink.path), (60, 120, 180), strict=True)
    )


def test_stream_that_changes_its_size(tmp_path):
    with VideoSink(tmp_path / "a.avi", 30, (64, 48)) as sink:
        for size in ((64, 48), (128, 96), (31, 17), (65, 49)):
            frame = grey(50, *size)
            frame[:, : size[0] // 2] = 200
            sink.write(frame)
    frames, _ = read(tmp_path / "a.avi")
    assert len(frames) == 4
    for frame in frames:
        assert frame.shape == (48, 64, 3)
        assert abs(frame[:, :24].mean() - 200) < 8
        assert abs(frame[:, 40:].mean() - 50) < 8


def test_callers_may_use_their_buffer_again(tmp_path):
    with VideoSink(tmp_path / "a.avi", 10, (32, 32)) as sink:
        buffer = grey(40, 32, 32)
        sink.write(buffer, 0.0)
        buffer[:] = 200
        sink.write(buffer, 0.5)
        assert (buffer == 200).all()
    assert all(abs(level - 40) < 5 for level in levels(tmp_path / "a.avi")[:4])


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_interrupted_run_leaves_a_playable_file(tmp_path, suffix, error):
    path = tmp_path / f"a{suffix}"

    def interrupted():
        with VideoSink(path, 30, (64, 48)) as sink:
            for level in range(50, 100, 10):
                sink.write(grey(level))
            raise error

    with pytest.raises(error):
        interrupted()
    assert len(read(path)[0]) == 5
    assert names(tmp_path) == [path.name]


def test_without_a_frame_nothing_is_left(tmp_path):
    with VideoSink(tmp_path / "a.mp4", 30, (64, 48)):
        pass
    with pytest.raises(KeyboardInterrupt), VideoSink(tmp_path / "a.mp4", 30, (64, 48)):
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_video_that_was_there_stays_until_the_new_one_is_finished(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"older")
    with VideoSink(path, 30, (64, 48)):
        pass
    assert path.read_bytes() == b"older"
    sink = VideoSink(path, 30, (64, 48))
    sink.write(grey(9))
    assert path.read_bytes() == b"older"
    sink.close()
    assert len(read(path)[0]) == 1


def test_closed_twice_and_written_after(tmp_path):
    sink = VideoSink(tmp_path / "a.mp4", 30, (64, 48))
    sink.write(grey(9))
    sink.close()
    sink.close()
    with pytest.raises(OutputError, match="is closed"):
        sink.write(grey(9))


def test_sink_that_is_dropped_leaves_nothing(tmp_path):
    sink = VideoSink(tmp_path / "a.mp4", 30, (64, 48))
    sink.write(grey(9))
    del sink
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["clip%03d.mp4", "a:b.mp4", "日本 😀.mkv", "a b.avi", "-x.webm"])
def test_names_that_mean_something_to_ffmpeg(tmp_path, name, monkeypatch):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    with VideoSink(Path(name), 30, (64, 48)) as sink:
        sink.write(grey(9))
    assert names(tmp_path) == [name]
    assert len(read(tmp_path / name)[0]) == 1


@pytest.mark.parametrize("name", ["a", "a.gif", "a.mpeg", "a.mp4.txt"])
def test_unknown_suffix(tmp_path, name):
    with pytest.raises(OutputError, match=r"use \.avi, \.mkv, \.mov, \.mp4, \.webm") as caught:
        VideoSink(tmp_path / name, 30, (64, 48))
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_size_that_the_codec_refuses(tmp_path, capfd):
    with pytest.raises(OutputError, match="9000x64 pixels; choose a smaller size") as caught:
        VideoSink(tmp_path / "a.mp4", 30, (9000, 64))
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []
    # Silent, but not for longer than OpenCV works.
    os.write(2, b"kept")
    assert capfd.readouterr() == ("", "kept")


@pytest.mark.parametrize("rate", [0, -1, 0.001, 1e9, float("nan"), float("inf")])
def test_frame_rates_that_make_no_sense(tmp_path, rate):
    with pytest.raises(InputError, match="frames per second were expected"):
        VideoSink(tmp_path / "a.mp4", rate, (64, 48))


def test_bad_frames_and_times(tmp_path):
    with pytest.raises(InputError, match="a width and a height above 0"):
        VideoSink(tmp_path / "a.mp4", 30, (0, 48))
    with VideoSink(tmp_path / "a.mp4", 30, (64, 48)) as sink:
        sink.write(grey(9))
        for image in (grey(9)[..., 0], grey(9).astype(np.float32), grey(9)[:0], grey(9)[..., :2]):
            with pytest.raises(InputError, match="RGB uint8"):
                sink.write(image)
        with pytest.raises(InputError, match="a finite number of seconds"):
            sink.write(grey(9), float("nan"))
    assert len(read(tmp_path / "a.mp4")[0]) == 1


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write") as caught:
        VideoSink(tmp_path / "file/a.mp4", 30, (64, 48))
    assert "\n" not in str(caught.value)
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        VideoSink(tmp_path / "a.mp4", 30, (64, 48))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "file"]


def test_disk_that_fills_up(tmp_path, monkeypatch):
    """Recording stops while the file can still be finished."""
    free = [1e9, 1e9, 1e9, 2**20]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free.pop(0)))

    def record():
        with VideoSink(tmp_path / "a.mp4", 10, (64, 48)) as sink:
            for _ in range(100):
                sink.write(grey(9))

    with pytest.raises(OutputError, match=r"the disk is full \(1\.0 MB are free\)"):
        record()
    assert len(read(tmp_path / "a.mp4")[0]) == 20
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    with pytest.raises(OutputError, match="the disk is full"):
        VideoSink(tmp_path / "b.mp4", 10, (64, 48))
    assert names(tmp_path) == ["a.mp4"]


def run_python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], capture_output=True, text=True, check=False
    )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_writes_that_fail(tmp_path, suffix):
    """The system refuses more than 1 MB: OpenCV swallows that, the sink says it, in one line."""
    done = run_python(
        """
        import resource, sys
        from pathlib import Path
        import numpy as np
        from salgan_edge.errors import OutputError
        from salgan_edge.video.recording import VideoSink
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
        noise = np.random.default_rng(0).integers(0, 256, (20, 240, 320, 3), dtype=np.uint8)
        try:
            with VideoSink(Path(sys.argv[1]), 30, (320, 240)) as sink:
                for number in range(200):
                    sink.write(noise[number % 20])
        except OutputError as error:
            print(error)
        """,
        tmp_path / f"a{suffix}",
    )
    assert done.stdout.count("\n") == 1, done
    assert "is the disk full?" in done.stdout
    assert "Traceback" not in done.stderr
    for path in tmp_path.iterdir():
        # What is left, if anything is, can be played.
        assert path.name == f"a{suffix}"
        assert len(read(path)[0]) > 0


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".webm"])
def test_killed_run_leaves_a_playable_hidden_file(tmp_path, suffix):
    """What the class promises of these containers."""
    done = run_python(
        """
        import os, signal, sys
        from pathlib import Path
        import numpy as np
        from salgan_edge.video.recording import VideoSink
        sink = VideoSink(Path(sys.argv[1]), 30, (320, 240))
        noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
        while True:
            sink.write(np.roll(noise, 7 * sink.frames, 1))
            size = sum(path.stat().st_size for path in sink.path.parent.iterdir())
            if size > 2**20:
                os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path / f"a{suffix}",
    )
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".a-")
    assert left.suffix == suffix
    assert len(read(left)[0]) > 5
