"""The live pipeline, how a machine is divided among frames, and what becomes of results."""

from __future__ import annotations

import io
import json
import threading
import time
from collections import Counter

import cv2
import numpy as np
import pytest

from salgan_edge import samples
from salgan_edge.devices import Execution
from salgan_edge.errors import DeviceError, InputError, OutputError, PromptError, SourceError
from salgan_edge.images import read_image
from salgan_edge.result import SaliencyResult
from salgan_edge.video import pipeline as pipeline_module
from salgan_edge.video.files import VideoFile
from salgan_edge.video.frames import Frame, Source
from salgan_edge.video.output import JsonLines, LiveOutput, Meter, compose, grid_peaks, save_still
from salgan_edge.video.pipeline import LivePipeline, LiveResult, Rate, plan_stream
from salgan_edge.video.sources import LiveSource
from salgan_edge.video.stabiliser import Stabiliser

LONG = 20.0  # seconds; a wait that takes so long has failed
SOON = 1.5  # seconds within which closing returns, also on a busy machine


def picture(number: int, size: tuple[int, int] = (32, 24)) -> np.ndarray:
    """RGB of a (width, height) that carries a number."""
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    image[0, 0] = (number >> 16, number >> 8 & 255, number & 255)
    return image


def number_of(image: np.ndarray) -> int:
    high, middle, low = (int(value) for value in image[0, 0])
    return high << 16 | middle << 8 | low


class Standin:
    """A predictor whose inference waits to be let go, and that counts what it is asked for."""

    device = "cpu"

    def __init__(self, *, held: bool = False, seconds: float = 0.0) -> None:
        self.embedded: list[tuple[str | None, ...]] = []
        self.encoded: list[str] = []
        self.embedding_threads: set[str] = set()
        self.begun: list[int] = []
        self.moments: list[float] = []
        self.seconds = seconds
        self.failing: dict[int, Exception] = {}
        self._held = held
        self._free: set[int] = set()
        self._changed = threading.Condition()

    def embed(self, texts):
        self.embedding_threads.add(threading.current_thread().name)
        if "bad" in texts:
            raise PromptError("bad text")
        self.embedded.append(tuple(texts))
        self.encoded += [text for text in texts if text not in self.encoded]
        return np.array([[float(self.encoded.index(text))] for text in texts], np.float32)

    def grids(self, image, vectors):
        number = number_of(image)
        with self._changed:
            self.begun.append(number)
            self.moments.append(time.monotonic())
            self._changed.notify_all()
            if self._held:
                assert self._changed.wait_for(lambda: number in self._free, LONG)
        if self.seconds:
            time.sleep(self.seconds)
        if number in self.failing:
            raise self.failing[number]
        return np.stack([np.full((3, 4), (float(v[0]) + 1) / 100, np.float32) for v in vectors])

    def free(self, *numbers: int) -> None:
        with self._changed:
            self._free.update(numbers)
            self._changed.notify_all()

    def wait_for(self, *numbers: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: set(numbers) <= set(self.begun), LONG), self.begun


class Pictures(Source):
    """A lossless source of so many pictures."""

    name = "pictures"
    fps = 10.0

    def __init__(self, count: int, error: Exception | None = None, size=lambda _: (32, 24)) -> None:
        self.taken = 0
        self.closed = 0
        self._count, self._error, self._size = count, error, size

    def __next__(self) -> Frame:
        if self.closed:
            raise StopIteration
        if self.taken == self._count:
            if self._error is not None:
                raise self._error
            raise StopIteration
        number = self.taken
        self.taken += 1
        return Frame(picture(number, self._size(number)), number, time.monotonic(), number / 10)

    def close(self) -> None:
        self.closed += 1


class Camera:
    """A capture that gives a picture when told to."""

    fps = 30.0

    def __init__(self) -> None:
        self.given = 0
        self.read_so_far = 0
        self._over = False
        self._changed = threading.Condition()
        self.give(1)

    def give(self, count: int) -> None:
        """Give pictures one after the other, each read before the next."""
        for _ in range(count):
            with self._changed:
                self.given += 1
                self._changed.notify_all()

    def settle(self) -> None:
        """Wait until everything given was handed over: the reader asks for more."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.read_so_far == self.given + 1, LONG)

    def end(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def read(self):
        with self._changed:
            self.read_so_far += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.given >= self.read_so_far or self._over)
            if self.given < self.read_so_far:
                raise EOFError
            return picture(self.read_so_far - 1), time.monotonic()

    def close(self) -> None:
        self.end()

    def source(self) -> LiveSource:
        return LiveSource(lambda: self, name="camera", interrupt=self.end)


def has_ended(pipeline: LivePipeline) -> bool:
    for thread in pipeline._threads:
        thread.join(LONG)
    return not any(thread.is_alive() for thread in pipeline._threads)


def fetch(pipeline: LivePipeline) -> LiveResult:
    """The next result; a failure instead of a wait without an end."""
    result = pipeline.get(LONG)
    assert result is not None
    return result


def numbers(results) -> list[int]:
    return [number_of(result.frame.image) for result in results]


def result_of(grid, image=None, texts=("a",), **changes) -> LiveResult:
    grids = np.stack([grid] * len(texts))
    image = picture(0, (64, 48)) if image is None else image
    frame = changes.pop("frame", Frame(image, 0, time.monotonic(), 0.0))
    return LiveResult(frame, tuple(texts), grids, grids, changes.pop("predicted", True), {"generator": 1.0})


# Lossless


def test_order_is_kept_where_workers_finish_in_another():
    predictor = Standin(held=True)
    with LivePipeline(Pictures(7), predictor, ["a"], workers=3) as pipeline:
        predictor.wait_for(0, 1, 2)
        predictor.free(2, 1)
        assert pipeline.get(0.05) is None
        predictor.free(0)
        got = [fetch(pipeline) for _ in range(3)]
        predictor.wait_for(3, 4, 5)
        predictor.free(5, 4, 6, 3)
        got += list(pipeline)
    assert numbers(got) == list(range(7))
    assert pipeline.dropped == 0
    assert has_ended(pipeline)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_frame_once(workers):
    source = Pictures(100)
    with LivePipeline(source, Standin(seconds=0.0005), ["a"], workers=workers) as pipeline:
        results = list(pipeline)
        assert list(pipeline) == []
    assert numbers(results) == list(range(100))
    assert all(result.predicted and result.milliseconds["generator"] >= 0.5 for result in results)
    assert source.closed


@pytest.mark.parametrize("workers", [1, 3])
def test_slow_caller_holds_the_source_back(workers):
    source = Pictures(1000)
    with LivePipeline(source, Standin(), ["a"], workers=workers) as pipeline:
        for delivered in range(4):
            # Two wait for the caller, and each worker has one in its hands.
            most = delivered + 2 + workers
            until = time.monotonic() + LONG
            while source.taken < most:
                assert time.monotonic() < until
                time.sleep(0.001)
            time.sleep(0.03)
            assert source.taken == most
            fetch(pipeline)
    assert has_ended(pipeline)


def test_two_prompts_take_one_pass_of_the_image():
    predictor = Standin()
    with LivePipeline(Pictures(3), predictor, ["a", None]) as pipeline:
        results = list(pipeline)
    assert predictor.begun == [0, 1, 2]
    assert all(result.texts == ("a", None) for result in results)
    assert [result.grids[:, 0, 0].tolist() for result in results] == pytest.approx(
        [pytest.approx([0.01, 0.02])] * 3
    )


def test_same_maps_as_without_a_pipeline(predictor, tmp_path):
    """On the real bundle; a video's frames, two prompts, two workers."""
    photos = [cv2.resize(read_image(samples.path(name)), (320, 240)) for name in samples.NAMES[:3]]
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for photo in photos:
        writer.write(cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
    writer.release()
    texts = ["a spoon", None]
    with LivePipeline(VideoFile(tmp_path / "a.avi"), predictor, texts, workers=2) as pipeline:
        results = list(pipeline)
    assert len(results) == 3
    for result in results:
        for grid, expected in zip(result.grids, predictor.predict(result.frame.image, texts), strict=True):
            got = SaliencyResult.from_grid(result.frame.image, expected.text, grid)
            np.testing.assert_allclose(got.map, expected.map, atol=1e-5)
        assert np.array_equal(result.grids, result.relative)
        assert np.abs(result.grids[0] - result.grids[1]).max() > 0.05


# Live


def test_newest_frame_is_taken_and_nothing_piles_up():
    """Whatever the camera gives meanwhile, inference goes on with the newest."""
    camera = Camera()
    predictor = Standin(held=True)
    delivered = []
    with LivePipeline(camera.source(), predictor, ["a"]) as pipeline:
        newest = 0
        for more in (1, 5, 2, 30, 1):
            predictor.wait_for(newest)
            camera.give(more)
            camera.settle()
            predictor.free(newest)
            delivered.append(fetch(pipeline))
            newest += more
        predictor.wait_for(newest)
        camera.end()
        predictor.free(newest)
        delivered += list(pipeline)
    assert numbers(delivered) == predictor.begun == [0, 1, 6, 8, 38, 39]
    assert pipeline.dropped + len(delivered) == camera.given == 40


def test_result_that_is_not_fetched_gives_way_to_the_next():
    camera = Camera()
    predictor = Standin()
    with LivePipeline(camera.source(), predictor, ["a"]) as pipeline:
        predictor.wait_for(0)
        for number in range(1, 6):
            camera.give(1)
            predictor.wait_for(number)
        camera.end()
        assert has_ended(pipeline)
        assert numbers(pipeline) == [5]
        assert pipeline.dropped == 5


class Steady:
    """A camera at a fixed rate, which knows when each picture was taken."""

    def __init__(self, period: float) -> None:
        self._period, self._next = period, time.monotonic()
        self.moments: list[float] = []

    def read(self):
        time.sleep(max(0.0, self._next - time.monotonic()))
        self.moments.append(time.monotonic())
        self._next = max(self._next + self._period, self.moments[-1])
        return picture(len(self.moments) - 1), self.moments[-1]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("workers", [1, 2])
def test_frame_age_with_inference_slower_than_the_camera(workers):
    """Under two frame periods when inference begins, that and one inference when delivered, and no growth.

    Three tries: a busy machine may stop any thread for longer than a period; a queue would fail all.
    """
    period, seconds, count = 0.04, 0.1 * workers, 14

    def ages() -> tuple[list[float], list[float], int]:
        camera, predictor = Steady(period), Standin(seconds=seconds)
        with LivePipeline(
            LiveSource(lambda: camera, name="steady"), predictor, ["a"], workers=workers
        ) as pipeline:
            delivered = []
            for _ in range(count):
                result = fetch(pipeline)
                delivered.append(time.monotonic() - result.frame.captured)
            dropped = pipeline.dropped
        begun = [
            moment - camera.moments[number]
            for number, moment in zip(predictor.begun, predictor.moments, strict=True)
        ]
        return begun[:count], delivered, dropped

    for _ in range(3):
        begun, delivered, dropped = ages()
        good = max(begun) < 2 * period and max(delivered) < 2 * period + 1.2 * seconds and dropped >= count
        if good:
            break
    assert good, (begun, delivered, dropped)


def test_what_waited_during_a_pause_is_dropped():
    camera = Camera()
    predictor = Standin(held=True)
    with LivePipeline(camera.source(), predictor, ["a"]) as pipeline:
        predictor.wait_for(0)
        pipeline.pause(True)
        predictor.free(*range(20))
        camera.give(5)
        camera.settle()
        # The result of picture 0 waits; nothing new is taken.
        until = time.monotonic() + LONG
        while not pipeline._results._items:
            assert time.monotonic() < until
            time.sleep(0.001)
        assert predictor.begun == [0]
        pipeline.pause(False)
        assert numbers([fetch(pipeline)]) == [5]
        camera.end()
        assert list(pipeline) == []
    assert pipeline.dropped == 5


def test_pause_of_a_file_loses_nothing():
    source = Pictures(20)
    with LivePipeline(source, Standin(), ["a"]) as pipeline:
        got = [fetch(pipeline)]
        pipeline.pause(True)
        time.sleep(0.02)
        while (result := pipeline.get(0.1)) is not None:
            got.append(result)
        taken = source.taken
        assert len(got) == taken < 20
        pipeline.pause(False)
        got += list(pipeline)
    assert numbers(got) == list(range(20))


# Failures and ends


@pytest.mark.parametrize("workers", [1, 3])
def test_error_of_the_source_comes_after_every_frame_before_it(workers):
    predictor = Standin(held=True)
    source = Pictures(5, SourceError("broken"))
    with LivePipeline(source, predictor, ["a"], workers=workers) as pipeline:
        predictor.free(4, 3, 2, 1)
        time.sleep(0.02)
        predictor.free(0)
        assert numbers([fetch(pipeline) for _ in range(5)]) == list(range(5))
        with pytest.raises(SourceError, match="broken"):
            next(pipeline)
        assert has_ended(pipeline)
        assert source.closed


@pytest.mark.parametrize("workers", [1, 3])
def test_error_of_the_generator_is_raised_in_its_turn(workers):
    predictor = Standin(seconds=0.001)
    predictor.failing = {4: DeviceError("lost"), 5: DeviceError("another")}
    source = Pictures(100)
    with LivePipeline(source, predictor, ["a"], workers=workers) as pipeline:
        assert numbers([fetch(pipeline) for _ in range(4)]) == list(range(4))
        with pytest.raises(DeviceError, match="lost"):
            fetch(pipeline)
        assert has_ended(pipeline)
        assert source.taken < 20


def test_error_of_the_stabiliser():
    class Broken(Stabiliser):
        def __call__(self, grids, time):
            if time > 0.25:
                raise InputError("cannot")
            return super().__call__(grids, time)

    with LivePipeline(Pictures(100), Standin(), ["a"], stabiliser=Broken(), workers=2) as pipeline:
        assert numbers([fetch(pipeline) for _ in range(3)]) == [0, 1, 2]
        with pytest.raises(InputError, match="cannot"):
            list(pipeline)
        assert has_ended(pipeline)


def test_error_of_a_live_source():
    calls = 0

    class Failing(Steady):
        def read(self):
            nonlocal calls
            calls += 1
            if calls > 3:
                raise SourceError("unplugged")
            return super().read()

    with LivePipeline(
        LiveSource(lambda: Failing(0.01), name="failing"), Standin(), ["a"], workers=2
    ) as pipeline:
        with pytest.raises(SourceError, match="unplugged"):
            list(pipeline)
        assert has_ended(pipeline)


def closes_soon(pipeline: LivePipeline) -> None:
    started = time.monotonic()
    pipeline.close()
    assert time.monotonic() - started < SOON
    assert has_ended(pipeline)
    assert list(pipeline) == []
    pipeline.close()


def test_close_while_waiting_for_a_frame():
    pipeline = LivePipeline(Camera().source(), Standin(), ["a"], workers=2)
    fetch(pipeline)
    closes_soon(pipeline)


def test_close_while_paused():
    pipeline = LivePipeline(Pictures(100), Standin(), ["a"], workers=2)
    pipeline.pause(True)
    closes_soon(pipeline)


def test_close_while_results_wait_for_the_caller():
    predictor = Standin()
    pipeline = LivePipeline(Pictures(100), predictor, ["a"], workers=3)
    predictor.wait_for(0, 1, 2, 3, 4)
    closes_soon(pipeline)


def test_close_while_a_result_waits_for_its_turn():
    predictor = Standin(held=True)
    pipeline = LivePipeline(Pictures(100), predictor, ["a"], workers=2)
    predictor.wait_for(0, 1)
    predictor.free(1)
    time.sleep(0.02)
    closing = threading.Thread(target=pipeline.close)
    closing.start()
    # Inference cannot be interrupted; closing waits for it, but not for ever.
    predictor.free(0)
    closing.join(SOON)
    assert not closing.is_alive()
    assert has_ended(pipeline)


def test_close_does_not_wait_for_ever_for_inference(monkeypatch):
    monkeypatch.setattr("salgan_edge.video.pipeline._PATIENCE", 0.1)
    predictor = Standin(held=True)
    pipeline = LivePipeline(Pictures(100), predictor, ["a"], workers=3)
    predictor.wait_for(0, 1, 2)
    started = time.monotonic()
    pipeline.close()
    assert time.monotonic() - started < SOON
    predictor.free(0, 1, 2)
    assert has_ended(pipeline)


def test_close_lets_a_waiting_caller_go():
    pipeline = LivePipeline(Camera().source(), Standin(), ["a"])
    fetch(pipeline)
    ends: list[object] = []
    waiting = threading.Thread(target=lambda: ends.append(list(pipeline)))
    waiting.start()
    pipeline.close()
    waiting.join(LONG)
    assert ends == [[]]
    with pytest.raises(EOFError):
        pipeline.get(0)


# Prompts


def test_new_prompts_from_the_next_frame_on():
    camera = Camera()
    predictor = Standin(held=True)
    with LivePipeline(camera.source(), predictor, ["a"]) as pipeline:
        predictor.wait_for(0)
        pipeline.set_texts(["b", "c"])
        assert pipeline.texts == ("b", "c")
        camera.give(1)
        predictor.free(0)
        first = fetch(pipeline)
        predictor.free(1)
        second = fetch(pipeline)
        assert (first.texts, second.texts) == (("a",), ("b", "c"))
        assert first.grids[:, 0, 0] == pytest.approx([0.01])
        assert second.grids[:, 0, 0] == pytest.approx([0.02, 0.03])
        # Nothing ran again for the frame that was under way.
        assert predictor.begun == [0, 1]
        with pytest.raises(PromptError, match="bad text"):
            pipeline.set_texts(["bad"])
        assert pipeline.texts == ("b", "c")
        camera.give(1)
        predictor.free(2)
        assert fetch(pipeline).texts == ("b", "c")
    # Texts are encoded in the caller's thread: only `grids` may be called from several.
    assert predictor.embedding_threads == {threading.current_thread().name}


def test_only_new_texts_are_encoded(predictor, monkeypatch):
    encoded = []
    real = type(predictor)._encode
    monkeypatch.setattr(
        type(predictor), "_encode", lambda self, texts: encoded.append(list(texts)) or real(self, texts)
    )
    with LivePipeline(Pictures(2), predictor, ["a new thing 1"]) as pipeline:
        pipeline.set_texts(["a new thing 1", "a new thing 2"])
        pipeline.set_texts(["a new thing 2", None])
    assert encoded == [["a new thing 1"], ["a new thing 2"]]


def test_bad_first_prompt_leaves_the_source_to_the_caller():
    source = Pictures(3)
    with pytest.raises(PromptError):
        LivePipeline(source, Standin(), ["bad"])
    assert source.taken == source.closed == 0


def test_predict_out_of_turn():
    predictor = Standin()
    with LivePipeline(Pictures(1), predictor, ["a"]) as pipeline:
        frame = fetch(pipeline).frame
        pipeline.set_texts(["b"])
        again = pipeline.predict(frame)
        assert (again.texts, again.frame, again.predicted) == (("b",), frame, True)
        assert again.grids[0, 0, 0] == pytest.approx(0.02)


def test_one_run_at_a_time_with_one_worker():
    """A session on a GPU binds its tensors: a paused frame's run waits for the stream's."""
    at_once, most = 0, 0
    lock = threading.Lock()

    class Counting(Standin):
        def grids(self, image, vectors):
            nonlocal at_once, most
            with lock:
                at_once += 1
                most = max(most, at_once)
            time.sleep(0.002)
            with lock:
                at_once -= 1
            return super().grids(image, vectors)

    with LivePipeline(Pictures(30), Counting(), ["a"]) as pipeline:
        for result in pipeline:
            pipeline.predict(result.frame)
    assert most == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_every_nth_frame_is_predicted(workers):
    predictor = Standin()
    with LivePipeline(Pictures(8), predictor, ["a"], every=3, workers=workers) as pipeline:
        results = list(pipeline)
    assert sorted(predictor.begun) == [0, 3, 6]
    assert numbers(results) == list(range(8))
    assert [result.predicted for result in results] == [True, False, False] * 2 + [True, False]
    assert results[4].grids is results[3].grids
    assert results[4].milliseconds == {}


def test_new_prompt_does_not_wait_for_the_next_predicted_frame():
    camera = Camera()
    predictor = Standin()
    with LivePipeline(
        camera.source(), predictor, ["a"], every=10, stabiliser=Stabiliser(half_life=10)
    ) as pipeline:
        results = [fetch(pipeline)]
        for text in ("a", "b", "b"):
            pipeline.set_texts([text])
            camera.give(1)
            results.append(fetch(pipeline))
    assert [result.predicted for result in results] == [True, False, True, False]
    assert [result.texts for result in results] == [("a",), ("a",), ("b",), ("b",)]


@pytest.mark.parametrize("every", [1, 2])
def test_new_prompt_starts_averaging_afresh(every):
    """What was averaged for the old prompt must not shine through; for the same prompt it stays."""

    class Moving(Standin):
        def grids(self, image, vectors):
            super().grids(image, vectors)
            grid = np.zeros((1, 2, 2), np.float32)
            grid[0, int(vectors[0, 0]), number_of(image) % 2] = 1
            return grid

    camera = Camera()
    stabiliser = Stabiliser(half_life=1000, percentile=None)
    with LivePipeline(camera.source(), Moving(), ["a"], stabiliser=stabiliser, every=every) as pipeline:
        fetch(pipeline)
        for _ in range(every):
            pipeline.set_texts(["a"])
            camera.give(1)
            same = fetch(pipeline)
        pipeline.set_texts(["b"])
        camera.give(1)
        fresh = fetch(pipeline)
    assert same.grids[0, 0].max() == 1
    if every == 1:
        # Picture 1 alone would be all on the right.
        assert same.relative[0, 0, 0] == 1
    assert fresh.grids[0, 0].max() == 0
    assert fresh.grids[0, 1].max() == fresh.relative.max() == 1


def test_stabilised_maps_are_those_of_the_stabiliser():
    with LivePipeline(Pictures(6), Standin(), ["a", "b"], stabiliser=Stabiliser(), workers=3) as pipeline:
        results = list(pipeline)
    alone = Stabiliser()
    for result in results:
        grids = np.stack([np.full((3, 4), value, np.float32) for value in (0.01, 0.02)])
        assert np.array_equal(result.grids, alone(grids, result.frame.time))
        assert result.relative.max((1, 2)).tolist() == [1, 1]
        assert set(result.milliseconds) == {"generator", "stabilise"}


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


def test_meter_does_not_grow():
    meter = Meter()
    result = result_of(np.ones((2, 2), np.float32))
    for number in range(7000):
        meter.add(result, result.frame.captured + number)
    assert len(meter._ages) <= 2000
    assert meter.frames == 7000


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


def test_peaks_of_real_maps(predictor):
    for name in samples.NAMES:
        image = read_image(samples.path(name))
        grid = predictor.grids(image, predictor.embed(["a thing"]))[0]
        size = (image.shape[1], image.shape[0])
        found = grid_peaks(grid, size, 1)[0]
        expected = SaliencyResult.from_grid(image, None, grid).peak
        assert abs(found.x - expected[0]) <= image.shape[1] / grid.shape[1]
        assert abs(found.y - expected[1]) <= image.shape[0] / grid.shape[0]


# JSON lines


SCHEMA = {
    "index": int, "time": float, "width": int, "height": int, "results": list, "milliseconds": dict, "device": str,
}  # fmt: skip


def check_line(line: str, **further: type) -> dict:
    """Exactly these fields, of these types, and values that fit each other."""
    record = json.loads(line)
    expected = {**SCHEMA, **further}
    assert set(record) == set(expected)
    assert {key: type(record[key]) for key in expected} == expected
    for entry in record["results"]:
        assert set(entry) == {"text", "peak", "peaks"}
        assert entry["text"] is None or isinstance(entry["text"], str)
        first = entry["peaks"][0]
        assert entry["peak"] == {"x": first["x"], "y": first["y"]}
        values = [peak["value"] for peak in entry["peaks"]]
        assert values == sorted(values, reverse=True)
        assert values[0] == pytest.approx(1, abs=0.1)
        for peak in entry["peaks"]:
            assert 0 <= peak["x"] < record["width"]
            assert 0 <= peak["y"] < record["height"]
    assert all(value >= 0 for value in record["milliseconds"].values())
    return record


def spot(row: int, column: int) -> np.ndarray:
    grid = np.zeros((12, 16), np.float32)
    grid[row, column] = 1
    return grid


def test_json_lines(tmp_path):
    first, second = io.StringIO(), io.StringIO()
    lines = JsonLines([first, second], "cpu", 2, tmp_path / "a.mp4")
    frame = Frame(picture(0, (64, 48)), 3, time.monotonic(), 0.12345678, "a.jpg")
    grids = np.stack([spot(2, 3), spot(9, 12)])
    result = LiveResult(frame, ("ein Kätzchen", None), grids, grids, True, {"generator": 1.23456})
    lines.write(result, {"draw": 2.0}, {"age_ms": 4.0, "dropped": 5})
    lines.write(result_of(spot(2, 3), predicted=False))
    text = first.getvalue()
    assert second.getvalue() == text
    assert text.endswith("}\n")
    assert len(text.splitlines()) == 1
    record = check_line(text, file=str, name=str, age_ms=float, dropped=int)
    assert (record["index"], record["time"], record["width"], record["height"]) == (3, 0.1235, 64, 48)
    assert [entry["text"] for entry in record["results"]] == ["ein Kätzchen", None]
    # The middle of a cell of 4 x 4 pixels.
    for entry, (x, y) in zip(record["results"], ((14, 10), (50, 38)), strict=True):
        assert abs(entry["peak"]["x"] - x) <= 2
        assert abs(entry["peak"]["y"] - y) <= 2
    assert set(record["milliseconds"]) == {"generator", "draw", "peaks"}
    assert record["milliseconds"]["generator"] == 1.235


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
    with LivePipeline(Pictures(1), Standin(), ["a"]) as pipeline, LiveOutput(pipeline) as output:
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


def frames_of(path) -> list[np.ndarray]:
    with VideoFile(path) as video:
        return [frame.image for frame in video]


def test_recording_is_begun_and_ended(tmp_path):
    output = LiveOutput(LivePipeline(Pictures(9), Standin(), ["a"]))
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
    with LivePipeline(Pictures(1), Standin(), ["a"]) as pipeline:
        output = LiveOutput(pipeline, record=tmp_path / "a.mp4")
        output.close()
    assert output.recorded == []
    assert list(tmp_path.iterdir()) == []


def test_recording_of_a_camera_follows_the_clock_but_for_a_pause(tmp_path):
    source = Pictures(0)
    source.live = True
    pipeline = LivePipeline(source, Standin(), ["a"])
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
    with LivePipeline(Pictures(1), Standin(), ["a"]) as pipeline:
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
    with LivePipeline(Pictures(5), Standin(), ["a"]) as pipeline:
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
    with LivePipeline(Pictures(5), Standin(), ["a"]) as pipeline:
        output = LiveOutput(pipeline, max_frames=2)
        full = []
        for result in pipeline:
            output.take(result, [0], draw=False)
            full.append(output.full)
    assert full == [False, True, True, True, True]


# Planning


class Machine:
    """Loads stand-ins whose one-threaded inference takes so long."""

    def __init__(self, seconds: float = 0.0, device: str = "cpu") -> None:
        self.seconds, self.device = seconds, device
        self.loaded: list[Execution] = []

    def __call__(self, execution: Execution) -> Standin:
        self.loaded.append(execution)
        predictor = Standin(seconds=self.seconds)
        predictor.device = self.device if execution.device == "auto" else execution.device
        return predictor


@pytest.fixture
def four_cpus(monkeypatch):
    monkeypatch.setattr(pipeline_module, "allowed_cpus", lambda: 4)
    monkeypatch.setattr(pipeline_module, "_TRIED", (8, 8))


SLOW = 0.03  # seconds, more than the sixtieth that one thread may take
AUTO = Execution()


@pytest.mark.usefixtures("four_cpus")
@pytest.mark.parametrize(
    ("machine", "execution", "live", "expected", "threads"),
    [
        (Machine(), AUTO, True, (4, 1), [1]),
        (Machine(SLOW), AUTO, True, (1, 4), [1, 4]),
        (Machine(SLOW), AUTO, False, (5, 1), [1]),
        (Machine(), AUTO, False, (5, 1), [1]),
        (Machine(SLOW), Execution(threads=2), True, (1, 2), [1, 2]),
        (Machine(), Execution(threads=2), True, (2, 1), [1]),
        (Machine(SLOW), Execution(threads=1), True, (1, 1), [1]),
        (Machine(SLOW), Execution(threads=1), False, (1, 1), [1]),
        (Machine(), Execution(threads=64), True, (8, 1), [1]),
        (Machine(), Execution(threads=64), False, (8, 1), [1]),
        (Machine(SLOW, "cuda"), AUTO, True, (1, 1), [1]),
        (Machine(SLOW, "openvino"), AUTO, False, (1, 1), [1]),
    ],
)
def test_threads_are_divided_among_frames(machine, execution, live, expected, threads):
    plan = plan_stream(machine, execution, live=live)
    assert (plan.workers, plan.threads) == expected
    assert [how.threads for how in machine.loaded] == threads
    assert not any(how.spinning for how in machine.loaded)
    # What auto found is not looked for, and not warned about, twice.
    assert [how.device for how in machine.loaded[1:]] == ["cpu"] * (len(threads) - 1)


@pytest.mark.usefixtures("four_cpus")
def test_spinning_where_asked_for():
    machine = Machine(SLOW)
    plan_stream(machine, AUTO, live=True, spin=True)
    assert [how.spinning for how in machine.loaded] == [True, True]


@pytest.mark.usefixtures("four_cpus")
def test_options_are_kept():
    machine = Machine(SLOW)
    asked = Execution(device="cpu", strict=True)
    plan_stream(machine, asked, live=True)
    assert Counter(how.strict for how in machine.loaded) == {True: 2}
