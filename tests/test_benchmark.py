"""`salgan-edge benchmark`: statistics, interleaving, records, and the command. No speed is asserted."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from salgan_edge.benchmarks import cold, live, record, settings, soak
from salgan_edge.benchmarks import compare as comparing
from salgan_edge.benchmarks.harness import expected_seconds
from salgan_edge.benchmarks.peers import Peer
from salgan_edge.benchmarks.record import (
    GROUPS,
    SCHEMA_VERSION,
    Record,
    Row,
    bundle_entry,
    load,
    machine,
    machine_name,
    pace,
    save,
)
from salgan_edge.benchmarks.report import describe, plot, to_text, write_csv
from salgan_edge.benchmarks.settings import (
    Frame,
    Settings,
    default_threads,
    parse_duration,
    parse_frames,
    parse_numbers,
)

from salgan_edge.bundle import Bundle, default_bundle
from salgan_edge.devices import Execution
from salgan_edge.errors import InputError, SalganEdgeError
from salgan_edge.timing import Stats, ratio_interval
from tools.record import SCHEMA, problems

# The machine


def test_clock_and_temperature(monkeypatch, tmp_path):
    import psutil

    def clock(current, most):
        return SimpleNamespace(current=current, min=800.0, max=most)

    def sensor(label, current):
        return SimpleNamespace(label=label, current=current)

    for number, governor in enumerate(("performance", "powersave", "performance")):
        folder = tmp_path / f"cpu{number}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{governor}\n")
    sensors = {
        "battery": [sensor("", 70.0)],
        "k10temp": [sensor("Tctl", 51.25), sensor("", 255.0), sensor("", 0.0)],
    }
    monkeypatch.setattr(record, "GOVERNORS", tmp_path)
    monkeypatch.setattr(psutil, "cpu_freq", lambda **_: [clock(1800.0, 2400.0), clock(2200.0, 3000.0)])
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: sensors, raising=False)
    # The hotter battery is no processor, and 255 degrees are no temperature.
    assert dataclasses.astuple(pace()) == ("performance, powersave", 2000.0, 3000.0, 51.2)
    del sensors["k10temp"]
    assert pace().celsius == 70


def test_a_system_that_tells_nothing(monkeypatch, tmp_path):
    import psutil

    monkeypatch.setattr(record, "GOVERNORS", tmp_path)
    monkeypatch.delattr(psutil, "cpu_freq", raising=False)
    monkeypatch.delattr(psutil, "sensors_temperatures", raising=False)
    assert dataclasses.astuple(pace()) == (None, None, None, None)


@pytest.mark.parametrize(
    ("model", "allowed", "name"),
    [
        ("AMD EPYC", 2, "2-core-amd-epyc"),
        ("AMD Ryzen 7 5800U with Radeon Graphics", 16, "16-core-amd-ryzen-7-5800u"),
        ("Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz", 8, "8-core-intel-xeon-platinum-8275cl"),
        ("Raspberry Pi 5 Model B Rev 1.0", 4, "4-core-raspberry-pi-5-model-b-rev-1-0"),
        ("®", 1, "1-core-unknown"),
    ],
)
def test_name_of_a_machine(model, allowed, name):
    assert machine_name(model, allowed) == name


def test_a_machine_tells_no_names(monkeypatch):
    import platform
    from pathlib import Path

    monkeypatch.setattr(platform, "node", lambda: "secret-host")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/somewhere/secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    text = json.dumps(machine())
    assert "secret" not in text
    assert str(Path.home()) not in text.replace('"/"', "")
    assert sys.prefix not in text
    assert machine()["omp_num_threads"] == "3"


# Records


def made_record(factor=1.0, *, noise=0.02, seed=0, **changes):
    """A record of made-up times: factor times 10 ms."""
    random = np.random.default_rng(seed)

    def stats(milliseconds):
        return Stats.of((factor * milliseconds * random.lognormal(0, noise, (10, 5))).tolist(), 12.5)

    entry = bundle_entry(Bundle.open(default_bundle()).manifest)
    common = {"bundle": 0, "device": "cpu", "threads": 1}
    one, two = stats(10.0), stats(6.0)
    base = {"generator, threads 1": ratio_interval(two.blocks, one.blocks)}
    rows = [
        Row("load", "imports", common, stats(100.0)),
        Row("threads", "generator", common, one),
        Row("threads", "generator", {**common, "threads": 2}, two, base),
        *(Row("prompts", "generator", {**common, "prompts": n}, stats(9.0 + n)) for n in (1, 2, 8)),
        *(Row("precision", "generator", {**common, "bundle": n}, stats(10.0 - 3 * n)) for n in (0, 1)),
        Row("memory", "salgan-edge predict", common, values={"peak_mb": 180.0 * factor}),
        Row("memory", "salgan-edge predict", {**common, "device": "cuda"}, values={"peak_mb": None}),
    ]
    other = {**entry, "precision": "int8", "accuracy": {"sjtu_tis test": {"CC": 0.7}}}
    values = {
        "machine": {**machine(), "load": 0.1}, "settings": {"quick": False}, "bundles": [entry, other], "rows": rows,
        "date": "2026-01-02T03:04:05Z", "seconds": 12.34,
    }  # fmt: skip
    return Record(**{**values, **changes})


def test_a_record_survives_its_file(tmp_path):
    record = made_record()
    save(record, tmp_path / "a.json")
    found = load(tmp_path / "a.json")
    assert found.to_dict()["rows"][1]["stats"] == record.to_dict()["rows"][1]["stats"]
    assert found.rows[2].ratios["generator, threads 1"].ratio == pytest.approx(0.6, rel=0.05)
    assert found.rows[1].stats.blocks == tuple(
        tuple(round(t, 4) for t in block) for block in record.rows[1].stats.blocks
    )
    assert found.machine == record.machine
    # Each row is one line.
    lines = (tmp_path / "a.json").read_text().splitlines()
    assert sum(line.startswith('    {"group"') for line in lines) == len(record.rows)


def test_few_samples_of_many_are_kept_from_all_blocks():
    stats = Stats.of(np.arange(4000.0).reshape(20, 200).tolist())
    kept = Row("stage", "x", stats=stats).to_dict()["samples_ms"]
    assert len(kept) == 20
    assert sum(map(len, kept)) <= 120
    assert [block[0] for block in kept] == [200.0 * n for n in range(20)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["rows"][0].pop("group"), r"rows\[0\] has no group"),
        (lambda r: r["rows"][0].update(group="speed"), r"rows\[0\].group is 'speed'"),
        (lambda r: r["rows"][1]["stats"].update(median_ms="fast"), r"rows\[1\].stats.median_ms is 'fast'"),
        (lambda r: r["rows"][1]["stats"].update(median_ms=math.nan), "median_ms is nan: int or float"),
        (lambda r: r["rows"][1].update(samples_ms=[1, 2]), "samples_ms holds something else"),
        (lambda r: r["rows"][2]["parameters"].update(threads=True), "parameters.threads is True"),
        (lambda r: r["rows"][2]["ratios"]["generator, threads 1"].pop("low"), "has no low"),
        (lambda r: r["machine"].pop("packages"), "machine has no packages"),
        (lambda r: r["bundles"].append(1), r"bundles\[2\] is 1: an object was expected"),
        (lambda r: r.update(rows={}), "rows is {}: list was expected"),
    ],
)
def test_what_is_damaged_is_named(change, message, tmp_path):
    raw = json.loads(json.dumps(made_record().to_dict()))
    change(raw)
    (tmp_path / "x.json").write_text(json.dumps(raw))
    with pytest.raises(InputError, match=f"is damaged: .*{message}"):
        load(tmp_path / "x.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["rows"][1]["stats"].update(runs=0),
        lambda r: r["rows"][2]["parameters"].update(colour=1),
        lambda r: r.update(date="yesterday"),
        lambda r: r["machine"].update(host="box"),
        lambda r: r["machine"].update(name="My Box"),
        lambda r: r["bundles"][0].update(input_size=[256]),
        lambda r: r["bundles"][0]["accuracy"].update(x={"CC": None}),
    ],
)
def test_the_schema_says_what_may_be_committed(change):
    raw = json.loads(json.dumps(made_record().to_dict()))
    assert problems(raw) == []
    change(raw)
    assert len(problems(raw)) == 1


def test_groups_and_schema_agree():
    raw = json.loads(SCHEMA.read_text())
    assert tuple(raw["$defs"]["row"]["properties"]["group"]["enum"]) == GROUPS
    assert raw["properties"]["schema"]["properties"]["version"]["const"] == SCHEMA_VERSION


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "is no result of a benchmark"),
        ('{"schema": {"name": "salgan-edge-benchmark", "version": 2}}', "reads up to 1"),
        ('{"schema": {"name": "salgan-edge-benchmark", "version": 1}}', "is damaged: the record has no"),
    ],
)
def test_files_that_are_no_results(text, message, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "a.json")


# Reports


def test_text_fits_a_hundred_columns_and_has_every_row():
    text = to_text(made_record())
    assert max(map(len, text.splitlines())) <= 100
    line = next(line for line in text.splitlines() if line.startswith("generator, 2 threads"))
    words = line.removeprefix("generator, 2 threads").split()
    stats = made_record().rows[2].stats
    assert words[0] == f"{stats.median_ms:.2f}"
    assert words[4] == "12.50"
    assert float(words[6]) == pytest.approx(0.6, rel=0.05)
    assert "180.0 MB" in text
    assert "not known here" in text
    assert "int8" in text
    assert describe(made_record())[0].startswith(machine()["cpu"])


def test_csv_has_a_line_for_each_row(tmp_path):
    record = made_record()
    write_csv(record, tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(record.rows)
    assert float(rows[1]["median_ms"]) == pytest.approx(record.rows[1].stats.median_ms, abs=1e-4)
    assert (rows[2]["ratio_to"], rows[2]["threads"]) == ("generator, threads 1", "2")
    assert [row["precision"] for row in rows if row["group"] == "precision"] == ["fp32", "int8"]
    assert [row["peak_mb"] for row in rows if row["group"] == "memory"] == ["180.0", ""]


def test_pictures_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from salgan_edge.images import read_image

    written = plot(made_record(), tmp_path)
    assert [path.stem for path in written] == ["threads", "prompts", "precision", "accuracy"]
    for path in written:
        pixels = read_image(path)
        assert pixels.shape == (480, 768, 3)
        # Something in colour is drawn beside the black axes.
        assert (pixels.max(axis=2).astype(int) - pixels.min(axis=2) > 60).sum() > 100
    bare = dataclasses.replace(made_record(), rows=[], bundles=[])
    assert plot(bare, tmp_path) == []


# Comparison


def test_what_is_beyond_the_noise_is_told():
    before, after = made_record(seed=1), made_record(1.2, seed=2)
    found = comparing.compare(before, after)
    timed = [d for d in found.differences if d.ratio]
    assert {d.verdict for d in timed} == {"slower"}
    assert all(d.ratio.ratio == pytest.approx(1.2, rel=0.05) for d in timed)
    assert {d.verdict for d in comparing.compare(after, before).differences if d.ratio} == {"faster"}
    assert [d.verdict for d in found.differences if d.ratio is None] == ["more"]
    assert found.warnings == ()
    assert found.missing == ()


def test_what_is_within_the_noise_counts_as_the_same():
    found = comparing.compare(made_record(noise=0.3, seed=1), made_record(1.05, noise=0.3, seed=2))
    verdicts = [d.verdict for d in found.differences if d.ratio]
    assert verdicts.count("same") >= len(verdicts) - 1
    # Without noise, too little is still nothing.
    tiny = comparing.compare(made_record(noise=1e-6), made_record(1.01, noise=1e-6))
    assert {d.verdict for d in tiny.differences} == {"same"}


def test_what_makes_two_results_hard_to_compare_is_told():
    before = made_record()
    packages = {**before.machine["packages"], "onnxruntime": "1.20.0"}
    where = {**before.machine, "cpu": "Other", "packages": packages}
    after = made_record(
        machine=where, bundles=[{**before.bundles[0], "bundle_id": "ffff"}], rows=before.rows[:2]
    )
    after = dataclasses.replace(after, settings={"quick": True}, machine={**where, "load": 3.0, "cores": 2})
    found = comparing.compare(before, after)
    text = " | ".join(found.warnings)
    assert "different machines" in text
    assert "Other" in text
    assert "onnxruntime" in text
    assert "ffff (fp32)" in text
    assert "second was taken with --quick" in text
    assert "second was taken while other programs were running (load 3.0)" in text
    assert "other programs were running (load 3.0)" in to_text(after)
    assert len(found.missing) == len(before.rows) - 2
    shown = comparing.to_text(found)
    assert max(map(len, shown.splitlines()[len(found.warnings) :])) <= 100
    assert shown.startswith("warning: different machines")


# The live loop


def test_live_row_is_scaled_by_the_neck(monkeypatch):
    rates = iter([1.0, 300.0])
    monkeypatch.setattr(live, "stream_rates", lambda *_: {"fps": next(rates)})
    monkeypatch.setattr(live, "neck_peer", lambda *_: Peer("neck", lambda: time.sleep(0.002), "", None))
    row = live.live_row(default_bundle(), rounds=1, threads=1)
    # The first round warms up. As many as there would be where the neck takes 8.2 ms.
    assert row.values["frames_per_second"] == 300
    assert row.values["neck_ms"] >= 2
    assert row.values[live.LIVE_FPS] == pytest.approx(300 * row.values["neck_ms"] / 8.2)
    assert problems(made_record(rows=[row]).to_dict()) == []


# Settings


def test_what_options_mean():
    assert parse_numbers("4, 1,4") == (1, 4)
    assert parse_frames("VGA,1x2") == (Frame(640, 480), Frame(1, 2))
    assert [parse_duration(text) for text in ("2", "90s", "10m", "1.5h")] == [2, 90, 600, 5400]
    for parse, text in (
        (parse_numbers, ""), (parse_numbers, "0"), (parse_numbers, "two"), (parse_numbers, "-1"), (parse_numbers, "²"),
        (parse_frames, "8k"), (parse_frames, "0x5"), (parse_frames, "99999x1"), (parse_duration, "1s"), (parse_duration, "soon"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="was given"):
            parse(text)


def test_threads_by_default(monkeypatch):
    found = {}
    for allowed in (1, 2, 3, 4, 6):
        monkeypatch.setattr(settings, "allowed_cpus", lambda allowed=allowed: allowed)
        found[allowed] = default_threads()
    assert found == {1: (1,), 2: (1, 2), 3: (1, 2, 3), 4: (1, 2, 4), 6: (1, 2, 4, 6)}


def test_groups_that_apply():
    one = Settings((default_bundle(),), threads=(1, 2))
    assert one.groups == ("load", "stage", "end_to_end", "threads", "prompts", "batch", "frame", "memory")
    several = dataclasses.replace(
        one, bundles=(default_bundle(),) * 2, devices=("cpu", "cuda"), peers=("matmul",)
    )
    assert several.groups == tuple(group for group in GROUPS if group != "soak")
    assert dataclasses.replace(one, only=("peer", "load")).groups == ("load", "peer")
    assert expected_seconds(dataclasses.replace(one, quick=True)) < expected_seconds(one) < 90
    options = dataclasses.replace(one, devices=("cuda",), options={"device_id": "1", "cache": "/home/x/y"})
    assert options.to_dict()["provider_options"] == {"device_id": "1", "cache": "set"}
    assert options.execution("cpu").options == {}


# The command


@pytest.fixture
def hurry(monkeypatch):
    """``--quick`` quicker still: what is measured matters here, not how well."""
    monkeypatch.setattr(settings, "QUICK", settings.Effort(2, 0.5, 1, 20.0, 0.0, 1))


def measured(run, *arguments):
    code, out, err = run("benchmark", *arguments, "--json")
    assert code == 0, err
    raw = json.loads(out)
    assert problems(raw) == []
    return Record.from_dict(raw)


@pytest.mark.usefixtures("hurry")
def test_timed_groups_of_a_bundle(run, tiny_bundle, tmp_path):
    groups = ("stage", "end_to_end", "threads", "prompts", "batch", "frame", "precision")
    record = measured(
        run, tiny_bundle, default_bundle(), *(f"--only={group}" for group in groups), "--quick", "--threads=1",
        "--prompts=1,3", "--frames=96x64,200x300", "--device=cpu", "-o", "r.json", "--csv", "r.csv",
    )  # fmt: skip
    rows = {group: [row for row in record.rows if row.group == group] for group in groups}
    assert {row.group for row in record.rows} == set(groups)
    assert all(row.stats.runs >= 2 for row in record.rows)
    assert [row.name for row in rows["stage"]] == [
        "decode JPEG", "resize", "tokenise", "text encode, with tokenise", "generator", "resize back", "draw overlay",
        "draw stream overlay",
    ]  # fmt: skip
    assert set(rows["end_to_end"][1].ratios) == {"bare session run"}
    assert [row.name for row in rows["threads"]] == ["generator", "text encode", "predict"]
    assert [row.parameters["prompts"] for row in rows["prompts"] if row.name == "generator"] == [1, 3]
    three = next(row for row in rows["prompts"] if row.name == "predict" and row.parameters["prompts"] == 3)
    assert three.values["maps_per_second"] == pytest.approx(3 * three.stats.per_second, rel=1e-3)
    assert set(three.ratios) == {"predict, prompts 1"}
    assert [row.parameters["batch"] for row in rows["batch"]] == [1, 4]
    sizes = {(row.parameters["width"], row.parameters["height"]) for row in rows["frame"]}
    assert sizes == {(96, 64), (200, 300)}
    assert {row.parameters["bundle"] for row in rows["precision"]} == {0, 1}
    assert [bundle["name"] for bundle in record.bundles] == ["tiny", "clip-salgan-edge"]
    assert record.settings["threads"] == [1]
    assert load(tmp_path / "r.json").to_dict() == record.to_dict()
    assert len((tmp_path / "r.csv").read_text().splitlines()) == len(record.rows) + 1


@pytest.mark.usefixtures("hurry")
def test_fresh_processes_are_measured(run, tiny_bundle, tmp_path):
    record = measured(
        run, tiny_bundle, "--quick", "--only=load", "--only=memory", "--frames=96x64", "--device=cpu"
    )
    load_rows = [row for row in record.rows if row.group == "load"]
    assert {"imports", "generator: session creation", "generator: first run", "text encoder: first run"} <= {
        row.name for row in load_rows
    }
    whole = next(row for row in load_rows if row.name == "salgan-edge predict")
    parts = sum(row.stats.median_ms for row in load_rows if "session creation" in row.name)
    assert whole.stats.median_ms > parts
    assert whole.stats.cpu_ms > 0
    memory = [row for row in record.rows if row.group == "memory"]
    assert [(row.parameters["width"], row.parameters["height"]) for row in memory] == [(600, 400), (96, 64)]
    # Python, NumPy, OpenCV and ONNX Runtime take some room; a test that has all of PyTorch takes far more.
    assert all(60 < row.values["peak_mb"] < 400 for row in memory)
    assert not list(tmp_path.glob("*overlay*"))


def test_memory_is_that_of_the_command_alone(capfd):
    """A parent that has much memory must not show in its child's peak."""
    held = np.ones(400_000_000, np.uint8)
    code = "import sys; x = bytearray(b'1') * 60_000_000"
    command = [sys.executable, "-m", "salgan_edge.benchmarks.cold", "launch", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert 60e6 < found["peak_bytes"] < 200e6
    assert held[0] == 1
    assert found["seconds"] > 0
    cold.main(["launch", sys.executable, "-c", "import sys; sys.exit('error: it broke')"])
    assert json.loads(capfd.readouterr().out)["error"] == "it broke"


@pytest.mark.usefixtures("hurry")
def test_a_bundle_without_text_encoder_is_measured_without_text(run, tiny_bundle):
    code, _, err = run("bundle", "pack", tiny_bundle, "bare.salgan", "--without-text-encoder")
    assert code == 0, err
    record = measured(
        run, "bare.salgan", "--quick", "--only=stage", "--only=end_to_end", "--only=load", "--threads=1", "--frames=96x64"
    )  # fmt: skip
    names = {row.name for row in record.rows}
    assert {"generator", "predict", "salgan-edge predict"} <= names
    assert not any("text" in name or "token" in name for name in names)
    assert record.bundles[0]["text_encoder_sha256"] is None


@pytest.mark.usefixtures("hurry")
def test_text_and_pictures_of_the_command(run, tiny_bundle, tmp_path):
    pytest.importorskip("matplotlib")
    code, out, err = run(
        "benchmark", tiny_bundle, "--quick", "--only", "threads", "--threads", "1,2", "--frames", "96x64",
        "--plot", "pictures", "--device", "cpu", "--device", "auto",
    )  # fmt: skip
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 100
    assert "generator, 2 threads" in out
    assert err.splitlines() == ["pictures/threads.png"]
    assert (tmp_path / "pictures/threads.png").stat().st_size > 1000


@pytest.mark.usefixtures("hurry")
def test_devices_that_work_are_found(run, tiny_bundle):
    common = (run, tiny_bundle, "--quick", "--only=device", "--frames=96x64")
    record = measured(*common, "--devices=auto")
    assert "cpu" in record.settings["devices"]
    assert {row.parameters["device"] for row in record.rows} == set(record.settings["devices"])
    # Two names of one device are one row each.
    named = measured(*common, "--device=cpu", "--device=auto")
    assert len({(row.name, row.parameters["device"]) for row in named.rows}) == len(named.rows) >= 3


def test_comparison_of_two_files(run, tmp_path):
    save(made_record(seed=1), tmp_path / "a.json")
    save(made_record(0.8, seed=2), tmp_path / "b.json")
    code, out, err = run("benchmark", "--compare", "a.json", "b.json")
    assert (code, err) == (0, "")
    assert "8 faster" in out
    code, out, _ = run("benchmark", "--compare", "a.json", "b.json", "--json")
    assert {row["verdict"] for row in json.loads(out)["rows"]} == {"faster", "less"}


def test_soak_of_a_tiny_bundle(run, tiny_bundle, tmp_path):
    code, out, err = run(
        "benchmark", tiny_bundle, "--soak", "3s", "--frames", "96x64", "-o", "s.json", "--device", "cpu"
    )
    assert code == 0, err
    assert "frames of 96x64" in out
    record = load(tmp_path / "s.json")
    whole, *samples = record.rows
    assert whole.name == "live loop"
    assert len(samples) >= 3
    assert samples[-1].parameters["second"] >= 3
    assert whole.values["frames"] == samples[-1].values["frames"] > 10
    assert record.bundles[0]["name"] == "tiny"
    assert "Over time" in to_text(record)


def test_a_soak_tells_growth_after_the_warm_minute():
    def sample(seconds, memory):
        return soak.Sample(seconds, memory, 100, 50.0, 2.0, 3.0, 4.0, None, None)

    samples = tuple(sample(5.0 * n, 100 + (40 if n < 12 else 50 + n)) for n in range(1, 41))
    found = soak.SoakResult(samples, 0, "cpu", 2, 1, 640, 480)
    assert found.warm[0].seconds == 60
    assert found.growth_mb == 28
    short = dataclasses.replace(found, samples=samples[:4])
    assert short.warm[0].seconds == 10
    assert "28.0 MB more" in found.to_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 1, "nowhere does not exist"),
        (["--threads", "x"], 2, "numbers from 1 to 1024"),
        (["--frames", "8k"], 2, "vga, 720p, 1080p, 4k or WIDTHxHEIGHT"),
        (["--only", "speed"], 2, "'speed' is unknown: load"),
        (["--peers", "somebody"], 2, "'somebody' is unknown"),
        (["--devices", "gpu"], 2, "auto was expected"),
        (["--devices", "auto", "--device", "cpu"], 2, "does not go with --device"),
        (["--device", "cpu", "--provider-option", "device_id=1"], 2, "fit no device"),
        (["--device", "directml"], 1, "directml"),
        (["--soak", "1s"], 2, "two seconds or more"),
        (["--soak", "5s", "--only", "load"], 2, "does not go with --only"),
        (["default", "small", "--soak", "5s"], 2, "it takes one bundle"),
        (["--compare", "a.json", "b.json"], 1, "cannot read a.json"),
        (["--compare", "a.json", "b.json", "--soak", "5s"], 2, "does not go with --soak"),
        (["--output", "."], 1, "is a folder"),
        (["--csv", "/proc/nothing/x.csv"], 1, "cannot write"),
    ],
)
def test_errors_are_one_line(run, arguments, code, message):
    found, out, err = run("benchmark", *arguments, "--quick")
    assert found == code, err
    assert out == ""
    if code == 1:
        assert err.count("\n") == 1
        assert err.startswith("error: ")
    assert message in " ".join(err.replace("│", " ").split())


def test_pictures_without_matplotlib_hint_at_the_extra(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = run("benchmark", "--plot", "pictures")
    assert (code, out) == (1, "")
    assert "salgan-edge[train]" in err


def test_a_fresh_process_that_fails_is_one_line(tiny_bundle):
    with pytest.raises(SalganEdgeError, match="directml"):
        cold.load_rows(tiny_bundle, Execution("directml"), 1, {})
    with pytest.raises(SalganEdgeError, match=r"could not be measured: .*directml"):
        cold.shell_rows(tiny_bundle, Execution("directml"), 1, {})


def test_nothing_heavy_is_needed():
    """Neither PyTorch nor onnx nor matplotlib, from import to table."""
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'matplotlib', 'transformers', 'scipy'): sys.modules[name] = None\n"
        "sys.argv = 'salgan-edge benchmark --quick --only=batch --batch=1 --threads=1 --frames=96x64'.split()\n"
        "from salgan_edge.cli import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "generator" in done.stdout
