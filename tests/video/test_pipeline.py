"""The live pipeline, and how a machine is divided among frames."""

from __future__ import annotations

import threading
import time
from collections import Counter

import numpy as np
import pytest
from pictures import LONG, have_ended
from standins import Camera, Pictures, Standin, fetch, number_of, picture

from salgan_edge.devices import Execution
from salgan_edge.errors import DeviceError, InputError, PromptError, SourceError
from salgan_edge.video import pipeline as pipeline_module
from salgan_edge.video.pipeline import Stream, plan_stream
from salgan_edge.video.sources import LiveSource
from salgan_edge.video.stabiliser import Stabiliser

SOON = 1.5  # seconds within which closing returns, also on a busy machine


def numbers(results) -> list[int]:
    return [number_of(result.frame.image) for result in results]


# Lossless


def test_order_is_kept_where_workers_finish_in_another():
    predictor = Standin(held=True)
    with Stream(Pictures(7), predictor, ["a"], workers=3) as pipeline:
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
    assert have_ended("inference")


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_frame_once(workers):
    source = Pictures(100)
    with Stream(source, Standin(seconds=0.0005), ["a"], workers=workers) as pipeline:
        results = list(pipeline)
        assert list(pipeline) == []
    assert numbers(results) == list(range(100))
    assert all(result.predicted and result.milliseconds["generator"] >= 0.5 for result in results)
    assert source.closed


@pytest.mark.parametrize("workers", [1, 3])
def test_slow_caller_holds_the_source_back(workers):
    source = Pictures(1000)
    with Stream(source, Standin(), ["a"], workers=workers) as pipeline:
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
    assert have_ended("inference")


def test_two_prompts_take_one_pass_of_the_image():
    predictor = Standin()
    with Stream(Pictures(3), predictor, ["a", None]) as pipeline:
        results = list(pipeline)
    assert predictor.begun == [0, 1, 2]
    assert all(result.texts == ("a", None) for result in results)
    assert [result.grids[:, 0, 0].tolist() for result in results] == pytest.approx(
        [pytest.approx([0.01, 0.02])] * 3
    )


# Live


def test_newest_frame_is_taken_and_nothing_piles_up():
    """Whatever the camera gives meanwhile, inference goes on with the newest."""
    camera = Camera()
    predictor = Standin(held=True)
    delivered = []
    with Stream(camera.source(), predictor, ["a"]) as pipeline:
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
    with Stream(camera.source(), predictor, ["a"]) as pipeline:
        predictor.wait_for(0)
        for number in range(1, 6):
            camera.give(1)
            predictor.wait_for(number)
        camera.end()
        assert have_ended("inference")
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
        with Stream(LiveSource(lambda: camera, name="steady"), predictor, ["a"], workers=workers) as pipeline:
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
    with Stream(camera.source(), predictor, ["a"]) as pipeline:
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
    with Stream(source, Standin(), ["a"]) as pipeline:
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
    with Stream(source, predictor, ["a"], workers=workers) as pipeline:
        predictor.free(4, 3, 2, 1)
        time.sleep(0.02)
        predictor.free(0)
        assert numbers([fetch(pipeline) for _ in range(5)]) == list(range(5))
        with pytest.raises(SourceError, match="broken"):
            next(pipeline)
        assert have_ended("inference")
        assert source.closed


@pytest.mark.parametrize("workers", [1, 3])
def test_error_of_the_generator_is_raised_in_its_turn(workers):
    predictor = Standin(seconds=0.001)
    predictor.failing = {4: DeviceError("lost"), 5: DeviceError("another")}
    source = Pictures(100)
    with Stream(source, predictor, ["a"], workers=workers) as pipeline:
        assert numbers([fetch(pipeline) for _ in range(4)]) == list(range(4))
        with pytest.raises(DeviceError, match="lost"):
            fetch(pipeline)
        assert have_ended("inference")
        assert source.taken < 20


def test_error_of_the_stabiliser():
    class Broken(Stabiliser):
        def __call__(self, grids, time):
            if time > 0.25:
                raise InputError("cannot")
            return super().__call__(grids, time)

    with Stream(Pictures(100), Standin(), ["a"], stabiliser=Broken(), workers=2) as pipeline:
        assert numbers([fetch(pipeline) for _ in range(3)]) == [0, 1, 2]
        with pytest.raises(InputError, match="cannot"):
            list(pipeline)
        assert have_ended("inference")


def test_error_of_a_live_source():
    calls = 0

    class Failing(Steady):
        def read(self):
            nonlocal calls
            calls += 1
            if calls > 3:
                raise SourceError("unplugged")
            return super().read()

    with Stream(LiveSource(lambda: Failing(0.01), name="failing"), Standin(), ["a"], workers=2) as pipeline:
        with pytest.raises(SourceError, match="unplugged"):
            list(pipeline)
        assert have_ended("inference")


@pytest.mark.parametrize("waiting", ["for a frame", "in a pause", "for the caller"])
def test_close_while_threads_wait(waiting):
    predictor = Standin()
    source = Camera().source() if waiting == "for a frame" else Pictures(100)
    pipeline = Stream(source, predictor, ["a"], workers=2)
    if waiting == "for a frame":
        fetch(pipeline)
    elif waiting == "in a pause":
        pipeline.pause(True)
    else:
        predictor.wait_for(0, 1, 2, 3)
    started = time.monotonic()
    pipeline.close()
    assert time.monotonic() - started < SOON
    assert have_ended("inference")
    assert list(pipeline) == []
    pipeline.close()


def test_close_while_a_result_waits_for_its_turn():
    predictor = Standin(held=True)
    pipeline = Stream(Pictures(100), predictor, ["a"], workers=2)
    predictor.wait_for(0, 1)
    predictor.free(1)
    time.sleep(0.02)
    closing = threading.Thread(target=pipeline.close)
    closing.start()
    # Inference cannot be interrupted; closing waits for it, but not for ever.
    predictor.free(0)
    closing.join(SOON)
    assert not closing.is_alive()
    assert have_ended("inference")


def test_close_does_not_wait_for_ever_for_inference(monkeypatch):
    monkeypatch.setattr("salgan_edge.video.pipeline._PATIENCE", 0.1)
    predictor = Standin(held=True)
    pipeline = Stream(Pictures(100), predictor, ["a"], workers=3)
    predictor.wait_for(0, 1, 2)
    started = time.monotonic()
    pipeline.close()
    assert time.monotonic() - started < SOON
    predictor.free(0, 1, 2)
    assert have_ended("inference")


def test_close_lets_a_waiting_caller_go():
    pipeline = Stream(Camera().source(), Standin(), ["a"])
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
    with Stream(camera.source(), predictor, ["a"]) as pipeline:
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


def test_bad_first_prompt_leaves_the_source_to_the_caller():
    source = Pictures(3)
    with pytest.raises(PromptError):
        Stream(source, Standin(), ["bad"])
    assert source.taken == source.closed == 0


def test_predict_out_of_turn():
    predictor = Standin()
    with Stream(Pictures(1), predictor, ["a"]) as pipeline:
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

    with Stream(Pictures(30), Counting(), ["a"]) as pipeline:
        for result in pipeline:
            pipeline.predict(result.frame)
    assert most == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_every_nth_frame_is_predicted(workers):
    predictor = Standin()
    with Stream(Pictures(8), predictor, ["a"], every=3, workers=workers) as pipeline:
        results = list(pipeline)
    assert sorted(predictor.begun) == [0, 3, 6]
    assert numbers(results) == list(range(8))
    assert [result.predicted for result in results] == [True, False, False] * 2 + [True, False]
    assert results[4].grids is results[3].grids
    assert results[4].milliseconds == {}


def test_new_prompt_does_not_wait_for_the_next_predicted_frame():
    camera = Camera()
    predictor = Standin()
    with Stream(camera.source(), predictor, ["a"], every=10, stabiliser=Stabiliser(half_life=10)) as pipeline:
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
    with Stream(camera.source(), Moving(), ["a"], stabiliser=stabiliser, every=every) as pipeline:
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
    with Stream(Pictures(6), Standin(), ["a", "b"], stabiliser=Stabiliser(), workers=3) as pipeline:
        results = list(pipeline)
    alone = Stabiliser()
    for result in results:
        grids = np.stack([np.full((3, 4), value, np.float32) for value in (0.01, 0.02)])
        assert np.array_equal(result.grids, alone(grids, result.frame.time))
        assert result.relative.max((1, 2)).tolist() == [1, 1]
        assert set(result.milliseconds) == {"generator", "stabilise"}


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
