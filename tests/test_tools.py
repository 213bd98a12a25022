"""Committed benchmarks: the gate, the figures to reach, and the tables in Markdown."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from salgan_edge.benchmarks import settings
from salgan_edge.benchmarks.harness import AROUND, BARE, PREDICT, STREAM_OVERLAY
from salgan_edge.benchmarks.live import LIVE, LIVE_FPS
from salgan_edge.benchmarks.record import Record, Row, machine, save
from salgan_edge.benchmarks.settings import Effort

from salgan_edge import moved
from salgan_edge.errors import InputError
from salgan_edge.timing import Ratio, Stats
from tools import gate
from tools import record as committed
from tools.gate import Check, better, checks, figures, figures_text
from tools.record import problems
from tools.table import END, PAGES, START, filled, render_figures, render_speed, render_summary, shown_number

README = Path(__file__).parent.parent / "README.md"
TOOLS = README.parent / "tools"


def timed(milliseconds):
    return Stats.of([[milliseconds] * 3] * 2)


def peer_row(name, milliseconds, threads=1, giga_macs=None, ceiling=None, **ratios):
    speed = None if giga_macs is None else 2 * giga_macs / (milliseconds / 1000)
    values = {
        "giga_macs": giga_macs, "gflop_per_second": speed,
        "ceiling_percent": 100 * speed / ceiling if speed and ceiling else None,
    }  # fmt: skip
    spread = {base: Ratio(value, 0.98 * value, 1.02 * value) for base, value in ratios.items()}
    return Row("peer", name, {"threads": threads, "device": "cpu"}, timed(milliseconds), spread, values)


def made_up(neck=1.4, paper=60.0, prompts=1.7, predict=1.2, name="2-core-amd-epyc", tool="1.2.0", **facts):
    """A record whose figures are known; generator: 3 ms."""
    common = {"bundle": 0, "device": "cpu", "threads": 2}
    vga, large = {"width": 640, "height": 480}, {"width": 1920, "height": 1080}
    rows = [
        Row("load", "salgan-edge predict", common, timed(800.0)),
        Row("end_to_end", BARE, {**common, **vga}, timed(2.0)),
        Row("end_to_end", PREDICT, {**common, **vga}, timed(2.0 * predict), {BARE: Ratio(predict, 0.99 * predict, 1.01 * predict)}),
        Row("prompts", "generator", {**common, **vga, "prompts": 1}, timed(2.0)),
        Row("prompts", "generator", {**common, **vga, "prompts": 8}, timed(2.0 * prompts),
            {"generator, prompts 1": Ratio(prompts, 0.99 * prompts, 1.01 * prompts)}),
        Row("frame", AROUND, {**common, **vga}, timed(1.0)),
        Row("frame", AROUND, {**common, **large}, timed(3.5)),
        Row("frame", STREAM_OVERLAY, {**common, **large}, timed(2.75)),
        Row("memory", "salgan-edge predict", {**common, **large}, values={"peak_mb": 300.0}),
        Row("memory", "salgan-edge predict", {**common, "width": 600, "height": 400}, values={"peak_mb": 200.0}),
        peer_row("generator", 3.0, giga_macs=0.225, ceiling=200.0, neck=neck, paper=1 / paper, matmul=0.035),
        peer_row("text encode", 0.5, neck=0.5 * neck / 3),
        peer_row("neck", 3.0 / neck, giga_macs=0.158, ceiling=200.0, generator=1 / neck),
        peer_row("paper", 3.0 * paper, giga_macs=23.1, ceiling=200.0, generator=paper),
        peer_row("matmul", 85.9, giga_macs=8.59, ceiling=200.0, generator=28.6),
        peer_row("generator", 2.0, 2, giga_macs=0.225, neck=1.7),
        Row("end_to_end", LIVE, {"threads": 2, **vga, "device": "cpu"},
            values={"frames_per_second": 200.0, "neck_ms": 2.5, LIVE_FPS: 61.0}),
    ]  # fmt: skip
    known = {"name": name, "cpu": "AMD EPYC", "allowed_cpus": 2, "architecture": "x86_64"}
    where = {**machine(), **known, **facts}
    asked = {"threads": [1, 2], "peers": ["neck", "paper", "matmul"]}
    return Record(where, asked, [], rows, "2026-11-25T12:00:00Z", 100.0, tool)


@pytest.fixture
def results(tmp_path):
    """A folder of committed results with one machine."""
    record = made_up()
    save(record, committed.place_of(record, tmp_path / "results"))
    return tmp_path / "results"


# The gate


def by_name(found):
    return {check.name: check for check in found}


def test_ratios_that_are_compared():
    found = by_name(checks(made_up(), made_up()))
    assert set(found) == {
        "predict, 2 threads, 640x480 / bare session run",
        "generator, 2 threads, 8 prompts, 640x480 / generator, prompts 1",
        "generator, 1 thread / neck", "generator, 1 thread / paper", "text encode, 1 thread / neck",
        "generator, 2 threads / neck",
    }  # fmt: skip
    assert {check.verdict for check in found.values()} == {"same"}


@pytest.mark.parametrize(
    ("now", "tolerance", "verdict"),
    [
        (Ratio(1.6, 1.55, 1.65), 0.15, "same"),
        (Ratio(1.62, 1.55, 1.65), 0.15, "worse"),
        (Ratio(1.62, 1.55, 1.65), 0.2, "same"),
        (Ratio(1.9, 1.40, 2.4), 0.15, "noisy"),
        (Ratio(1.2, 1.1, 1.3), 0.15, "better"),
        (Ratio(1.2, 1.1, 1.39), 0.15, "noisy"),
    ],
)
def test_verdicts(now, tolerance, verdict):
    assert Check("peer", "a / b", Ratio(1.4, 1.38, 1.42), now, tolerance).verdict == verdict


def test_milliseconds_do_not_matter():
    slow = made_up()
    rows = [
        replace(row, stats=None if row.stats is None else timed(10 * row.stats.median_ms))
        for row in slow.rows
    ]
    assert {check.change for check in checks(made_up(), replace(slow, rows=rows))} == {1.0}


def test_only_what_both_have_is_compared():
    fewer = made_up()
    fewer = replace(fewer, rows=[row for row in fewer.rows if row.parameters["threads"] == 1])
    assert {check.name for check in checks(made_up(), fewer)} == {
        "generator, 1 thread / neck", "generator, 1 thread / paper", "text encode, 1 thread / neck",
    }  # fmt: skip
    assert checks(made_up(), replace(fewer, rows=[])) == []


def test_the_lower_of_two_measurements_counts():
    first = checks(made_up(), made_up(neck=2.0, prompts=1.7))
    second = checks(made_up(), made_up(neck=1.45, prompts=2.5))
    second = [check for check in second if check.group == "peer"]
    found = by_name(better(first, second))
    assert found["generator, 1 thread / neck"].measured.ratio == 1.45
    assert found["generator, 2 threads, 8 prompts, 640x480 / generator, prompts 1"].measured.ratio == 1.7
    assert len(found) == len(first)


def test_gate_passes_and_fails(tool, results, tmp_path):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    save(made_up(neck=1.45), good)
    save(made_up(predict=1.5, neck=1.45), bad)
    code, out, err = tool("gate", "--measured", good, "--results", results)
    assert code == 0, err
    assert "0 worse" in out
    assert "committed: salgan-edge 1.2.0, 2-core-amd-epyc, 2026-11-25" in err
    code, out, _ = tool("gate", "--measured", bad, "--results", results)
    assert code == 1
    assert "1 worse and 0 better by more than 15%" in out
    (line,) = [line for line in out.splitlines() if line.startswith("predict, 2 threads, 640x480 /")]
    assert line.split()[-4:] == ["1.2", "1.5", "1.49-1.51", "worse"]
    assert all(len(line) <= 100 for line in out.splitlines())
    assert tool("gate", "--measured", bad, "--results", results, "--tolerance", "0.3")[0] == 0


def test_gate_measures_twice_what_is_worse(tool, results, monkeypatch):
    asked = []

    def measure(wanted, *_, **__):
        asked.append(wanted)
        return made_up(neck=9.0 if len(asked) == 1 else 1.4)

    monkeypatch.setattr(gate, "measured", measure)
    code, out, err = tool("gate", "--results", results)
    assert code == 0, err
    assert "measuring again" in err
    assert "0 worse" in out
    assert [one.groups for one in asked] == [("end_to_end", "prompts", "peer"), ("peer",)]
    assert asked[0].devices == ("cpu",)
    monkeypatch.setattr(gate, "measured", lambda *_, **__: made_up(neck=9.0))
    assert tool("gate", "--results", results)[0] == 1


def test_gate_without_anything_to_compare(tool, results, tmp_path):
    code, _, err = tool("gate", "--results", tmp_path / "none")
    assert code == 1
    assert err.startswith("error: no results are committed")
    empty = tmp_path / "empty.json"
    save(replace(made_up(), rows=[]), empty)
    code, out, err = tool("gate", "--measured", empty, "--results", results)
    assert (code, out) == (1, "")
    assert "error: nothing that both have" in err


def test_gate_really_measures(tool, tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(
        settings, "QUICK", Effort(min_runs=1, min_seconds=0.01, min_blocks=2, max_seconds=1.0)
    )
    taken = tmp_path / "now.json"
    code, _, err = tool(
        "peers", "-b", tiny_bundle, "--peers", "spectral-residual", "--threads", "1", "--quick", "-o", taken
    )
    assert code == 0, err
    record = made_up()
    row = replace(peer_row("generator", 1.0), ratios={"spectral-residual": Ratio(1e6, 0.9e6, 1.1e6)})
    place = committed.place_of(record, tmp_path / "results")
    save(replace(record, rows=[row], settings={"threads": [1]}), place)
    code, out, _ = tool(
        "gate", "-b", tiny_bundle, "--quick", "--peers", "spectral-residual", "--results", tmp_path / "results"
    )  # fmt: skip
    assert code == 0
    assert "0 worse and 1 better" in out


# Committed results


def test_nearest_machine(tmp_path):
    here = made_up().machine
    for name, cpu, cpus, version, architecture in (
        ("2-core-amd-epyc", "AMD EPYC", 2, "1.1.0", "x86_64"),
        ("2-core-amd-epyc", "AMD EPYC", 2, "1.10.0", "x86_64"),
        ("2-core-amd-epyc", "AMD EPYC", 2, "1.9.0", "x86_64"),
        ("8-core-amd-epyc", "AMD EPYC", 8, "1.10.0", "x86_64"),
        ("4-core-intel", "Intel", 4, "1.10.0", "x86_64"),
        ("4-core-cortex-a76", "Cortex-A76", 4, "1.1.0", "aarch64"),
    ):
        record = made_up(name=name, cpu=cpu, allowed_cpus=cpus, tool=version, architecture=architecture)
        save(record, committed.place_of(record, tmp_path))

    def found(**facts):
        record = committed.nearest({**here, **facts}, tmp_path)
        return record.machine["name"], record.tool

    assert found() == ("2-core-amd-epyc", "1.10.0")
    assert found(name="6-core-amd-epyc", allowed_cpus=6) == ("8-core-amd-epyc", "1.10.0")
    assert found(name="3-core-amd-ryzen", cpu="AMD Ryzen", allowed_cpus=4) == ("4-core-intel", "1.10.0")
    arm = found(name="1-core-arm", cpu="ARM", allowed_cpus=2, architecture="aarch64")
    assert arm == ("4-core-cortex-a76", "1.1.0")
    assert [record.machine["name"] for record in committed.newest(tmp_path)] == [
        "2-core-amd-epyc", "4-core-intel", "8-core-amd-epyc",
    ]  # fmt: skip


def test_records_of_another_bundle_are_kept_apart(tmp_path):
    entry = json.loads(committed_paths()[0].read_text(encoding="utf-8"))["bundles"][0]
    default = replace(made_up(), bundles=[{**entry, "name": "clip-salgan-edge"}])
    small = replace(made_up(neck=1.3), bundles=[{**entry, "name": "clip-salgan-edge-small"}])
    for record in (default, small):
        save(record, committed.place_of(record, tmp_path))
    assert committed.place_of(small, tmp_path).name == "2-core-amd-epyc-small.json"
    for record in (default, small):
        found = committed.nearest(default.machine, tmp_path, record.bundles[0]["name"])
        assert found.bundles[0]["name"] == record.bundles[0]["name"]


def test_versions_are_in_their_order(tmp_path):
    names = ["0.9.0", "0.10.0.dev1", "0.10.0rc1", "0.10.0", "0.10.1"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.json").touch()
    (tmp_path / "schema.json").touch()
    assert list(committed.committed_files(tmp_path)) == names[::-1]


def committed_paths():
    return [file for files in committed.committed_files().values() for file in files]


@pytest.mark.parametrize("file", committed_paths(), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_committed_results_keep_to_the_schema_and_their_names(file):
    raw = json.loads(file.read_text(encoding="utf-8"))
    assert problems(raw) == []
    record = Record.from_dict(raw)
    assert committed.place_of(record) == file
    assert not record.settings.get("quick"), "taken with --quick: too few runs to be committed"
    assert {row.name for row in record.rows if row.group == "peer"} >= {
        "generator",
        "paper",
        "neck",
        "matmul",
    }
    for secret in (str(Path.home()), str(README.parent.parent)):
        assert secret not in file.read_text(encoding="utf-8")


# Figures


def test_figures_are_read_from_their_rows():
    found = figures(replace(made_up(), bundles=[{"name": "clip-salgan-edge-small"}]))
    assert [(figure.measured, figure.limit, figure.reached) for figure in found] == [
        (60.0, 50, True), (1.4, 1.6, True), (1.7, 1.6, False), (1.7, 1.8, True), (1.2, 1.25, True), (3.5, 6, True),
        (6.25, 6, False), (61.0, 60, True), (800.0, 900, True), (0.5, 2, True), (200.0, 250, True),
    ]  # fmt: skip
    # The default bundle may cost more.
    found = figures(replace(made_up(), bundles=[{"name": "clip-salgan-edge"}]))
    assert [(figure.measured, figure.limit) for figure in found[:3]] == [(60.0, 20), (1.4, 4.2), (1.7, 4.2)]
    assert (61.0, 30, True) in [(figure.measured, figure.limit, figure.reached) for figure in found]


def test_figures_that_were_not_measured():
    found = figures(replace(made_up(), rows=[]))
    assert {figure.verdict for figure in found} == {"not measured"}
    assert "0 of 10 are reached" in figures_text(found)


def test_figures_command(tool, tmp_path):
    taken = tmp_path / "now.json"
    entry = json.loads(committed_paths()[0].read_text(encoding="utf-8"))["bundles"][0]
    small = [{**entry, "name": "clip-salgan-edge-small"}]
    save(replace(made_up(), bundles=small), taken)
    code, out, _ = tool("gate", "--figures", "--measured", taken)
    assert code == 1
    assert "9 of 11 are reached" in out
    lines = [line for line in out.splitlines() if line.endswith("missed")]
    assert [line.split("  ")[0] for line in lines] == [
        "generator by YOLOX-Nano's neck, 2 threads", "the same with the overlay of a stream drawn",
    ]  # fmt: skip
    rows = [
        replace(row, stats=timed(1.0)) if row.name == STREAM_OVERLAY else row
        for row in made_up().rows
        if (row.group, row.name, row.parameters["threads"]) != ("peer", "generator", 2)
    ]
    rows.append(peer_row("generator", 2.0, 2, neck=1.5))
    save(replace(made_up(), rows=rows, bundles=small), taken)
    code, out, _ = tool("gate", "--figures", "--measured", taken)
    assert code == 0
    assert "11 of 11 are reached" in out
    save(replace(made_up(), rows=rows[1:]), taken)
    code, out, _ = tool("gate", "--figures", "--measured", taken)
    assert code == 1
    assert "not measured" in out


# Tables


def test_speed_table_says_what_the_record_says():
    lines = render_speed(made_up()).splitlines()
    assert lines[0].startswith("AMD EPYC, 2 CPUs; onnxruntime")
    assert lines[0].endswith("salgan-edge 1.2.0; 2026-11-25.")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    assert {len(row) for row in rows} == {8}
    table = {(row[0], row[1]): row[2:] for row in rows[2:]}
    assert table["**generator of this package**", "1"] == ["3.00", "3.00", "1", "", "150", "75 %"]
    assert table["the paper's generator, 256x256", "1"] == [
        "180",
        "180",
        "60.0",
        "58.8 to 61.2",
        "257",
        "128 %",
    ]
    assert table["its text encoder, one new text", "1"] == ["0.5", "0.5", "", "", "", ""]
    assert [row[1] for row in rows[2:]] == ["1"] * 5 + ["2"]


def test_summary_has_a_row_for_each_bundle_of_one_machine():
    records = [replace(made_up(), bundles=[{"name": name}]) for name in ("clip-salgan-edge", "mine")]
    lines = render_summary([*records, made_up(cpu="Cortex-A76")]).splitlines()
    assert lines[0].startswith("Medians, the first three columns on one thread; AMD EPYC, 2 CPUs")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[4:]]
    assert [row[:3] for row in rows] == [
        ["**`default`**", "3.00 ms", "60 times as long"],
        ["mine", "3.00 ms", "60 times as long"],
    ]
    text = f"{START.format(kind='summary')}\n{END.format(kind='summary')}\n"
    assert render_summary(records) in filled(text, records)


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0517, "0.052"), (1.0, "1.00"), (12.34, "12.3"), (190.43, "190"), (1234.5, "1234")]
)
def test_numbers(value, shown):
    assert shown_number(value) == shown


def test_tables_are_written_between_their_markers():
    marks = [mark.format(kind=kind) for kind in ("figures", "table") for mark in (START, END)]
    parts = [*marks[:3], "outdated\n", marks[3]]
    text = "before\n{}\n{}\nbetween\n{}\n{}{}\nafter\n".format(*parts)
    other = made_up(name="4-core-arm", cpu="Cortex-A76")
    new = filled(text, [made_up(), other])
    assert "outdated" not in new
    assert new.startswith(f"before\n{parts[0]}\n")
    assert new.endswith(f"{parts[4]}\nafter\n")
    assert "| generator by YOLOX-Nano's neck, 1 thread | at most 4.2 times | 1.4 times | reached |" in new
    for part in (render_speed(made_up()), render_speed(other), render_figures(made_up()), "\nbetween\n"):
        assert new.count(part) == 1
    assert filled(new, [made_up(), other]) == new
    with pytest.raises(InputError, match="no results are committed"):
        filled(text, [])
    with pytest.raises(InputError, match="the text has no line <!-- benchmark table"):
        filled("nothing", [made_up()])
    with pytest.raises(InputError, match="after it no line <!-- end of benchmark table"):
        filled(parts[2], [made_up()])


def test_table_command(tool, results, tmp_path):
    file = tmp_path / "page.md"
    file.write_text(f"{START.format(kind='table')}\n{END.format(kind='table')}\n")
    assert tool("table", file, "--results", results, "--check")[0] == 1
    assert "AMD EPYC" not in file.read_text()
    assert tool("table", file, "--results", results)[0] == 0
    assert render_speed(made_up()) in file.read_text()
    assert tool("table", file, "--results", results, "--check")[0] == 0
    code, _, err = tool("table", tmp_path / "none.md", "--results", results)
    assert code == 1
    assert err.startswith("error: cannot read")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_have_the_newest_results(page):
    records = committed.newest()
    if not records:
        pytest.skip("no results are committed")
    text = page.read_text(encoding="utf-8")
    assert filled(text, records) == text, "python -m tools table"


# The command line


def test_help_lists_every_tool(tool):
    code, out, _ = tool("--help")
    assert code == 0
    assert tool() == (code, out, "")
    files = {file.stem.replace("_", "-") for file in TOOLS.glob("*.py")}
    listed = {line.split()[0] for line in out.splitlines() if line.startswith("  ")}
    assert listed == files - {"--init--", "--main--", "golden", "measuring"}
    code, _, err = tool("bake")
    assert code == 2
    assert "'bake' is unknown: record, gate" in err


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["salgan_edge.benchmarks", "gate"], "tools gate"),
        (["salgan_edge.benchmarks"], "tools"),
        (["salgan_edge.train.fit_targets"], "tools fit-targets"),
    ],
)
def test_old_names_work_in_a_checkout(old, new, tmp_path):
    command = [sys.executable, "-m", *old, "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"note: python -m {' '.join(old)} is now python -m {new}, run in the clone")
    assert done.stderr.count("\n") == 1
    assert f"Usage: python -m {new} " in done.stdout


def test_old_names_of_an_installed_package_name_the_repository(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(moved, "__file__", str(tmp_path / "salgan_edge" / "moved.py"))
    with pytest.raises(SystemExit) as stop:
        moved.run_tool("python -m salgan_edge.train.annotate", "annotate", [])
    assert stop.value.code == 1
    told = "python -m salgan_edge.train.annotate is now python -m tools annotate in a clone of the repository: it is not installed"
    assert capsys.readouterr().err == f"error: {told}\n"
