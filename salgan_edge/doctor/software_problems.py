"""What is wrong with Python, the system and the packages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from salgan_edge.devices import DEVICES, REQUIREMENTS
from salgan_edge.doctor.packages import version_key
from salgan_edge.doctor.problems import Problem, apt_install, pip_install, pip_uninstall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salgan_edge.doctor.facts import Facts
    from salgan_edge.doctor.packages import Imported

__all__ = ["extra_for", "reinstall_onnxruntime", "software_problems"]

_LOW_MEMORY = 400 * 2**20
"""Bytes that the default bundle with its packages needs, and some more."""

_DEBIAN = {
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libXext.so.6": "libxext6",
    "libXrender.so.1": "libxrender1",
    "libX11.so.6": "libx11-6",
    "libxcb.so.1": "libxcb1",
    "libgomp.so.1": "libgomp1",
    "libstdc++.so.6": "libstdc++6",
    "libopenblas.so.0": "libopenblas0",
    "libatomic.so.1": "libatomic1",
}
"""Debian's packages of the libraries that slim images lack."""


def software_problems(facts: Facts) -> Iterator[Problem]:
    """Problems of everything that is no device."""
    yield from _python(facts)
    yield from _onnxruntimes(facts)
    yield from _opencvs(facts)
    yield from _imports(facts)
    yield from _old(facts)
    yield from _memory(facts)


def _python(facts: Facts) -> Iterator[Problem]:
    python, system = facts.python, facts.system
    if python.bits == 32:
        what = "this Python is of 32 bit, for which there is no onnxruntime: install a 64-bit Python (and system)"
        yield Problem("error", "python", what)
    if system.libc == "musl":
        what = (
            "this system has the C library musl (Alpine), for which onnxruntime has no packages: "
            "use an image with glibc"
        )
        yield Problem("error", "system", what, ("docker run -it python:3.12-slim bash",))
    if python.translated:
        what = "this Python is for Intel and runs translated on an Apple chip, several times slower: use one for arm64"
        commands = ("brew install python@3.12",) if system.manager == "brew" else ()
        yield Problem("warning", "python", what, commands)
    if python.implementation != "CPython":
        yield Problem("warning", "python", f"{python.implementation} is not tested: use CPython")


def extra_for(facts: Facts) -> str:
    """The extra of salgan-edge that fits: of the device asked for, else of the hardware that is there."""
    if facts.asked.device in DEVICES:
        return DEVICES[str(facts.asked.device)].extra
    return "gpu" if facts.cuda.present and facts.system.kind != "Darwin" else "cpu"


def _kept(facts: Facts) -> str:
    """The extra to keep where several packages of onnxruntime are installed.

    Someone put a special one there on purpose, while the plain one often comes with another package.
    """
    if facts.asked.device is not None:
        return extra_for(facts)
    for kind in DEVICES.values():
        if kind.package == "onnxruntime" or kind.package not in facts.packages.onnxruntime:
            continue
        if kind.extra != "gpu" or facts.cuda.present:
            return kind.extra
    return extra_for(facts)


def _onnxruntimes(facts: Facts) -> Iterator[Problem]:
    """Several packages in one folder."""
    packages = facts.packages
    if len(packages.onnxruntime) < 2:
        return
    names = list(packages.onnxruntime)
    broken = bool(packages.imports.get("onnxruntime") and packages.imports["onnxruntime"].problem)
    users = {user for name in names for user in packages.wanted_by.get(name, ())}
    what = f"{_and(names)} are installed together and overwrite each other's files: only one may stay"
    if users:
        what += f" ({_and(sorted(users))} brought one of them, and may do so again)"
    commands = (
        pip_uninstall(facts, names),
        pip_install(facts, REQUIREMENTS[_kept(facts)]),
    )
    yield Problem("error" if broken else "warning", "package onnxruntime", what, commands)


def _opencvs(facts: Facts) -> Iterator[Problem]:
    packages = facts.packages
    if len(packages.opencv) < 2:
        return
    names = list(packages.opencv)
    broken = bool(packages.imports.get("opencv") and packages.imports["opencv"].problem)
    what = f"{_and(names)} are installed together and overwrite each other's files: windows or video may be missing"
    commands = (pip_uninstall(facts, names), pip_install(facts, _opencv(facts)))
    yield Problem("error" if broken else "warning", "package opencv", what, commands)


def _opencv(facts: Facts) -> str:
    """What to install of OpenCV."""
    return f"opencv-python>={facts.packages.required.get('opencv-python', '4.9')}"


def _imports(facts: Facts) -> Iterator[Problem]:
    """Packages that cannot be imported."""
    packages = facts.packages
    several = {
        name
        for name, family in (("onnxruntime", packages.onnxruntime), ("opencv", packages.opencv))
        if len(family) > 1
    }
    for name, imported in packages.imports.items():
        if not imported.problem or name in several:
            continue
        yield Problem("error", f"package {name}", *_import_problem(facts, name, imported))
        if name == "numpy":
            # The others import numpy, and fail with it.
            return


def _import_problem(facts: Facts, name: str, imported: Imported) -> tuple[str, tuple[str, ...]]:
    """What keeps a package from being imported, and what mends it."""
    packages = facts.packages
    lowest = packages.required.get(name)
    family = {name: packages.installed[name]} if name in packages.installed else {}
    wanted = f"{name}>={lowest}" if lowest else name
    if name == "opencv":
        family, wanted = packages.opencv, _opencv(facts)
    elif name == "onnxruntime":
        family, wanted = packages.onnxruntime, REQUIREMENTS[extra_for(facts)]
    if not family:
        return f"{name} is not installed", (pip_install(facts, wanted),)
    what = f"{name} cannot be imported: {imported.problem}"
    library = re.search(r"(lib[\w.+-]+?\.so[.\d]*): cannot open shared object", imported.problem)
    if library:
        return _missing_library(facts, name, library[1])
    if "DLL load failed" in imported.problem:
        what += "; the Visual C++ runtime is missing or too old"
        return what, ("winget install Microsoft.VCRedist.2015+.x64",)
    if re.search(r"NumPy 1\.x|numpy\.core\.multiarray|_ARRAY_API", imported.problem):
        return f"{what}; it was built for another numpy", (pip_install(facts, "--upgrade", *family, "numpy"),)
    if "it hangs" in imported.problem:
        return what, ("salgan-edge doctor --timeout 120",)
    return what, (pip_install(facts, "--force-reinstall", "--no-deps", *family),)


def _missing_library(facts: Facts, name: str, library: str) -> tuple[str, tuple[str, ...]]:
    """A shared library of the system is missing."""
    what = f"{name} cannot be imported: the system's library {library} is missing"
    debian = _DEBIAN.get(library)
    commands = apt_install(facts, debian) if debian else ()
    if name == "opencv" and not commands:
        # The package without windows needs none of their libraries.
        commands = (
            pip_uninstall(facts, facts.packages.opencv),
            pip_install(facts, "opencv-python-headless"),
        )
        what += "; OpenCV without windows does not need it"
    return what, commands


def reinstall_onnxruntime(facts: Facts) -> tuple[str, ...]:
    """Commands that put the installed onnxruntime there anew."""
    family = facts.packages.onnxruntime or {DEVICES["cpu"].package: ""}
    return (pip_install(facts, "--force-reinstall", "--no-deps", *family),)


def _old(facts: Facts) -> Iterator[Problem]:
    for name, lowest in facts.packages.required.items():
        found = facts.packages.installed.get(name)
        if found and version_key(found) < version_key(lowest):
            what = f"{name} {found} is installed, {lowest} or newer is needed"
            part = "package opencv" if name == "opencv-python" else f"package {name}"
            yield Problem("warning", part, what, (pip_install(facts, "--upgrade", f"{name}>={lowest}"),))


def _memory(facts: Facts) -> Iterator[Problem]:
    processor = facts.processor
    free = [size for size in (processor.memory_free, processor.memory_limit) if size is not None]
    if free and min(free) < _LOW_MEMORY:
        what = f"{min(free) / 1e6:.0f} MB of memory are free, about {_LOW_MEMORY / 1e6:.0f} are needed: close other programs"
        yield Problem("warning", "memory", what)


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
