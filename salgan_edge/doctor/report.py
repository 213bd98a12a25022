"""The report for people, and the object for bug reports."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from salgan_edge.doctor.private import Names, scrub, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salgan_edge.doctor.examine import Facts
    from salgan_edge.doctor.problems import Plan
    from salgan_edge.doctor.system import Processor

__all__ = ["REPORT_VERSION", "to_dict", "to_text"]

REPORT_VERSION = 1
"""Of the JSON object's keys; raised when one goes or changes its meaning."""

_WIDTH = 100


@dataclass(frozen=True)
class _Row:
    """One line; its mark is the gravest problem of its part, else the mark given."""

    part: str
    label: str
    text: str
    mark: str = "ok"


def to_dict(facts: Facts, plan: Plan, names: Names | None = None) -> dict[str, Any]:
    """One object for JSON, without names of users, machines and home folders.

    Args:
        facts: what was found.
        plan: made of them.
        names: what must not be told; this machine's where None.
    """
    report = {
        "report_version": REPORT_VERSION,
        "ready": plan.ready,
        "problems": [asdict(problem) for problem in plan.problems],
        "next": plan.next,
        **asdict(facts),
    }
    found: dict[str, Any] = scrub(report, names or Names.of_this_machine())
    return found


def to_text(facts: Facts, plan: Plan, names: Names | None = None) -> str:
    """The report as it is shown, with the same left out."""
    names = names or Names.of_this_machine()
    gravest: dict[str, str] = {}
    for problem in plan.problems:
        # The plan has the gravest first.
        gravest.setdefault(problem.part, problem.severity)
    sections = {
        "machine": list(_machine(facts)),
        "packages": list(_packages(facts)),
        "devices": list(_devices(facts)),
        "windows and cameras": list(_video(facts)),
        "prediction": list(_prediction(facts)),
    }
    width = max(len(row.label) for rows in sections.values() for row in rows)
    lines = [f"salgan-edge {facts.packages.salgan_edge} doctor"]
    for title, rows in sections.items():
        lines += ["", title]
        for row in rows:
            mark = gravest.get(row.part, row.mark)
            lines += _wrapped(f"  {mark:<8}{row.label:<{width}}  ", shorten(row.text, names))
    # The folder's short form would not do as part of a command there.
    shown = Names() if facts.system.kind == "Windows" else names
    lines += ["", *_plan(plan, names, shown)]
    return "\n".join(lines)


def _wrapped(start: str, text: str) -> list[str]:
    return textwrap.wrap(
        text or "-",
        width=_WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plan(plan: Plan, names: Names, in_commands: Names) -> Iterator[str]:
    if plan.problems:
        yield "what to do"
        for number, problem in enumerate(plan.problems, 1):
            yield from _wrapped(f"  {number}. {problem.severity}: ", shorten(problem.what, names))
            for command in problem.commands:
                known = Names() if f'"{names.home}' in command else in_commands
                yield f"       {shorten(command, known)}"
        yield ""
    grave = [problem.severity for problem in plan.problems if problem.severity != "note"]
    if not plan.ready:
        count = grave.count("error")
        yield f"NOT READY: {count} error{'s' if count > 1 else ''} to fix first"
    elif grave:
        yield f"ready for images, with {len(grave)} warning{'s' if len(grave) > 1 else ''}; next: {shorten(plan.next, names)}"
    else:
        yield f"all is well; next: {shorten(plan.next, names)}"


def _machine(facts: Facts) -> Iterator[_Row]:
    python, system, processor = facts.python, facts.system, facts.processor
    kind = {"venv": "virtual environment", "conda": "conda environment"}.get(
        python.environment, "system's own"
    )
    extra = ", free-threaded" if python.free_threaded else ""
    yield _Row(
        "python",
        "Python",
        f"{python.implementation} {python.version}, {python.bits} bit{extra}, {kind}, {python.executable}",
    )
    around = [
        f"{system.kind} {system.release}",
        system.machine,
        system.libc,
        f"in a container ({system.container})" if system.container else "",
        "in WSL" if system.wsl else "",
        system.board,
        f"Jetson: {system.jetson}" if system.jetson else "",
    ]
    yield _Row("system", "system", ", ".join(filter(None, [system.name, *around])))
    features = " ".join(processor.features) or "features unknown"
    yield _Row("processor", "processor", f"{processor.model or 'unknown'}: {features}")
    yield _Row("processor", "CPUs", _cpus(processor))
    yield _Row("memory", "memory", _memory(processor))
    for name, value in system.settings.items():
        yield _Row(f"setting {name}", "setting", f"{name}={value}", "--")


def _cpus(processor: Processor) -> str:
    limits = []
    if processor.affinity is not None and processor.affinity < processor.cores:
        limits.append(f"affinity allows {processor.affinity}")
    if processor.quota is not None:
        limits.append(f"control group allows {processor.quota:g}")
    return f"{processor.allowed} used of {processor.cores}" + (f" ({', '.join(limits)})" if limits else "")


def _memory(processor: Processor) -> str:
    if processor.memory is None:
        return "unknown"
    parts = [f"{processor.memory / 1e9:.1f} GB"]
    if processor.memory_free is not None:
        parts.append(f"{processor.memory_free / 1e9:.1f} GB free")
    if processor.memory_limit is not None:
        parts.append(f"control group allows {processor.memory_limit / 1e9:.1f} GB")
    return ", ".join(parts)


def _packages(facts: Facts) -> Iterator[_Row]:
    packages = facts.packages
    families = {"onnxruntime": packages.onnxruntime, "opencv": packages.opencv}
    for name, imported in packages.imports.items():
        part = f"package {name}"
        distributions = families.get(name)
        source = ""
        if distributions is not None:
            listed = ", ".join(f"{key} {value}" for key, value in distributions.items())
            source = f" (from {listed})" if listed else " (from no package that pip knows)"
        if imported.problem:
            yield _Row(part, name, f"{imported.problem}{source}", "error")
        else:
            yield _Row(
                part, name, f"{imported.version or '?'}{source}, imported in {imported.milliseconds:.0f} ms"
            )
    if "typer" in packages.installed:
        yield _Row("package typer", "typer", packages.installed["typer"])


def _devices(facts: Facts) -> Iterator[_Row]:
    runtime = facts.packages.imports.get("onnxruntime")
    providers = [] if runtime is None else runtime.details.get("providers", [])
    for device in facts.devices:
        part = f"device {device.name}"
        if device.works:
            ran = ", ".join(f"{count} on {name}" for name, count in device.operators.items())
            text = f"computes; tiny graph in {device.milliseconds or 0:.0f} ms, operators: {ran or 'unknown'}"
            # `auto` is CUDA or the CPU.
            chosen = "" if device.name in ("cpu", "cuda") else f"; used with --device {device.name}"
            yield _Row(part, device.name, text + chosen)
        elif device.tried:
            yield _Row(part, device.name, device.problem, "no")
        elif not device.possible:
            yield _Row(part, device.name, "not for this operating system", "--")
        else:
            why = "not in the installed onnxruntime" if providers else "not tried without onnxruntime"
            yield _Row(part, device.name, why, "--")
    if providers:
        yield _Row("providers", "providers", ", ".join(providers), "--")
    yield from _nvidia(facts)


def _nvidia(facts: Facts) -> Iterator[_Row]:
    cuda = facts.cuda
    for gpu in cuda.gpus:
        memory = f", {gpu.memory_mb / 1024:.0f} GB" if gpu.memory_mb else ""
        yield _Row("cuda", "NVIDIA", f"{gpu.name}{memory}, compute capability {gpu.compute}")
    if not cuda.gpus and cuda.present:
        where = ", ".join(cuda.device_files) or "on the PCI bus"
        yield _Row("cuda", "NVIDIA", f"device {where}", "--")
    if cuda.present or cuda.driver or cuda.driver_cuda:
        parts = [
            cuda.driver,
            f"runs CUDA up to {cuda.driver_cuda}" if cuda.driver_cuda else "",
            cuda.driver_problem,
        ]
        yield _Row(
            "cuda", "driver", ", ".join(filter(None, parts)) or "none", "--" if cuda.driver_problem else "ok"
        )
    wanted = cuda.present or any("gpu" in name for name in facts.packages.onnxruntime)
    if wanted:
        found = ", ".join(
            f"{library.name} {library.version or library.file.rsplit('.so.')[-1].rsplit('/')[-1]} ({library.origin})"
            for library in cuda.libraries
        )
        yield _Row(
            "cuda",
            "CUDA",
            found or cuda.problem or "no library of CUDA found",
            "ok" if found and cuda.present else "--",
        )


def _video(facts: Facts) -> Iterator[_Row]:
    opencv, display = facts.opencv, facts.display
    yield _Row(
        "backends",
        "cameras by",
        ", ".join(opencv.camera_backends),
        "--" if not opencv.camera_backends else "ok",
    )
    yield _Row(
        "backends",
        "streams by",
        ", ".join(opencv.stream_backends),
        "--" if not opencv.stream_backends else "ok",
    )
    gui = opencv.gui or "no windows in this OpenCV"
    if display.works is None:
        where = f"display {display.display}" if display.display else "no display"
        yield _Row("window", "window", f"{gui}, {where}: not tried", "--")
    else:
        state = f"opened in {display.seconds:.1f} s" if display.works else display.problem
        yield _Row(
            "window",
            "window",
            f"{gui}, {display.display or 'screen'}: {state}",
            "ok" if display.works else "no",
        )
    if not facts.cameras.looked:
        yield _Row("cameras", "cameras", "not looked for", "--")
    elif not facts.cameras.found:
        hint = ""
        if facts.system.wsl:
            hint = ": Windows lends its own with usbipd"
        elif facts.system.container:
            hint = ": a container is given one with --device /dev/video0"
        yield _Row("cameras", "cameras", f"none found{hint}", "--")
    for camera in facts.cameras.found:
        name = f"{camera.name or 'camera'} {camera.device}".strip()
        if camera.works:
            size = f"{camera.width}x{camera.height}"
            text = f"{name}: {size} by {camera.backend}, first frame in {camera.first_frame or 0:.0f} ms"
            yield _Row(f"camera {camera.number}", f"camera {camera.number}", text)
        else:
            why = camera.problem or ("not tried" if camera.captures else "gives no pictures")
            if not camera.allowed:
                why = f"may not be opened by this user (group {camera.group or '?'})"
            yield _Row(f"camera {camera.number}", f"camera {camera.number}", f"{name}: {why}", "--")


def _prediction(facts: Facts) -> Iterator[_Row]:
    bundle = facts.bundle
    title = bundle.name or "bundle"
    if not bundle.tried:
        yield _Row("bundle", "bundle", f"{bundle.bundle}: not tried, see above", "--")
        return
    known = f", bundle {bundle.bundle_id}, {bundle.precision}" if bundle.bundle_id else ""
    if not bundle.works:
        yield _Row("bundle", "bundle", f"{title} ({bundle.bundle}){known}: {bundle.problem}", "error")
        return
    yield _Row("bundle", "bundle", f"{title} ({bundle.bundle}){known}: {bundle.checks} checks passed")
    times = [f"load {bundle.load:.0f} ms" if bundle.load is not None else ""]
    if bundle.generator is not None:
        times.append(f"image {bundle.generator:.1f} ms")
    if bundle.text is not None:
        times.append(f"text {bundle.text:.1f} ms")
    if bundle.text_first is not None:
        times.append(f"first text {bundle.text_first:.0f} ms")
    yield _Row(
        "bundle", "speed", f"on {bundle.device}: {', '.join(filter(None, times))} (medians, this moment)"
    )
