"""What a benchmark measures, for how long, and how the command line says so."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from salgan_edge.benchmarks.peers import PEERS
from salgan_edge.benchmarks.record import GROUPS

from salgan_edge.bundle import default_bundle
from salgan_edge.cpus import allowed_cpus
from salgan_edge.devices import Execution
from salgan_edge.doctor.devices import gather_devices
from salgan_edge.doctor.private import Names, scrub
from salgan_edge.doctor.probe import ask
from salgan_edge.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = [
    "FRAMES",
    "Effort",
    "Frame",
    "OptionError",
    "Settings",
    "chosen_peers",
    "default_threads",
    "parse_duration",
    "parse_frames",
    "parse_numbers",
    "working_devices",
]

_PROBE_SECONDS = 60.0


class OptionError(ValueError):
    """A word of the command line that cannot be understood.

    Args:
        option: that it was given for, such as ``--threads``.
        message: what is wrong with it.
    """

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


class Frame(NamedTuple):
    """Size of the photo that is given."""

    width: int
    height: int

    def __str__(self) -> str:
        """Width and height, as in ``640x480``."""
        return f"{self.width}x{self.height}"


FRAMES = {
    "vga": Frame(640, 480),
    "720p": Frame(1280, 720),
    "1080p": Frame(1920, 1080),
    "4k": Frame(3840, 2160),
}
"""Frame sizes by their usual names."""

_MOST_SIDE = 16384


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    min_runs: int = 50
    min_seconds: float = 5.0
    min_blocks: int = 5
    max_seconds: float = 30.0
    """Of the rows of one group."""
    pause: float = 0.05
    """Seconds before each block of runs."""
    cold_runs: int = 5
    """Fresh processes for each cold figure."""


QUICK = Effort(min_runs=10, min_seconds=1.0, min_blocks=2, max_seconds=4.0, cold_runs=3)
"""For a first look; percentiles and intervals of so few runs are rough."""


@dataclass(frozen=True)
class Settings:
    """What was asked for."""

    bundles: tuple[Path, ...]
    """The first is measured in all respects, the others beside it."""
    devices: tuple[str, ...] = ("auto",)
    """Likewise."""
    threads: tuple[int, ...] = field(default_factory=lambda: default_threads())  # noqa: PLW0108 - it is defined below
    """CPU threads, rising; all but the group ``threads`` take the last."""
    prompts: tuple[int, ...] = (1, 2, 4, 8)
    batch: tuple[int, ...] = (1, 4)
    frames: tuple[Frame, ...] = tuple(FRAMES.values())
    """The stages are timed on the first."""
    only: tuple[str, ...] = ()
    """Groups; empty for all that apply."""
    peers: tuple[str, ...] = ()
    """Names that `salgan_edge.benchmarks.peers` knows."""
    peer_files: tuple[str, ...] = ()
    """ONNX files of the user's own, ``name=file.onnx``."""
    strict: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    """Of the execution provider."""
    quick: bool = False

    @classmethod
    def parse(
        cls,
        bundles: Sequence[Path] = (),
        devices: Sequence[str] = ("auto",),
        *,
        threads: str | None = None,
        prompts: str = "1,2,4,8",
        batch: str = "1,4",
        frames: str = ",".join(FRAMES),
        only: Sequence[str] = (),
        peers: str | None = None,
        peer_files: Sequence[str] = (),
        strict: bool = False,
        options: Mapping[str, str] | None = None,
        quick: bool = False,
    ) -> Settings:
        """Settings from the words of a command line; what is left out has its default.

        Raises:
            OptionError: a word cannot be understood.
        """
        groups = [group for group in GROUPS if group != "soak"]
        for word in only:
            if word not in groups:
                raise OptionError("--only", f"{word!r} is unknown: {', '.join(groups)} were expected")
        chosen = chosen_peers(peers)
        if "peer" in only and not (peers or peer_files):
            chosen = tuple(PEERS)
        return cls(
            bundles=tuple(bundles) or (default_bundle(),),
            devices=tuple(devices),
            threads=default_threads() if threads is None else parse_numbers(threads, "--threads"),
            prompts=parse_numbers(prompts, "--prompts"),
            batch=parse_numbers(batch, "--batch"),
            frames=parse_frames(frames),
            only=tuple(only),
            peers=chosen,
            peer_files=tuple(peer_files),
            strict=strict,
            options=options or {},
            quick=quick,
        )

    @property
    def effort(self) -> Effort:
        """How much is measured."""
        return QUICK if self.quick else Effort()

    @property
    def groups(self) -> tuple[str, ...]:
        """What is measured, in the order of the report."""
        if self.only:
            return tuple(group for group in GROUPS if group in self.only)
        unasked = {"soak"}
        unasked |= {"device"} if len(self.devices) == 1 else set()
        unasked |= {"precision"} if len(self.bundles) == 1 else set()
        unasked |= set() if self.peers or self.peer_files else {"peer"}
        return tuple(group for group in GROUPS if group not in unasked)

    def execution(self, device: str | None = None, threads: int | None = None) -> Execution:
        """How to run on a device (the first where None) with threads (the most where None)."""
        name = device or self.devices[0]
        options = {} if name in ("auto", "cpu") else self.options
        return Execution(name, threads or self.threads[-1], options, strict=self.strict and name != "cpu")

    def to_dict(self) -> dict[str, Any]:
        """What was asked for, without paths."""
        values = {
            "quick": self.quick,
            "groups": list(self.groups),
            "devices": list(self.devices),
            "threads": list(self.threads),
            "prompts": list(self.prompts),
            "batch": list(self.batch),
            "frames": [str(frame) for frame in self.frames],
            "peers": [*self.peers, *(text.partition("=")[0] for text in self.peer_files)],
            "strict": self.strict,
            # A value with a separator may be a path.
            "provider_options": {
                key: "set" if re.search(r"[/\\]", value) else value for key, value in self.options.items()
            },
        }
        return cast("dict[str, Any]", scrub(values, Names.of_this_machine()))


def chosen_peers(text: str | None) -> tuple[str, ...]:
    """Names of peers with commas between, each once; ``all`` for all of them, ``none`` or None for none.

    Raises:
        OptionError: a name is unknown.
    """
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    if words == ["all"]:
        return tuple(PEERS)
    if words == ["none"]:
        return ()
    for word in words:
        if word not in PEERS:
            expected = ", ".join([*PEERS, "all", "none"])
            raise OptionError("--peers", f"{word!r} is unknown: {expected} were expected")
    return tuple(dict.fromkeys(words))


def working_devices(tell: Callable[[str], object]) -> tuple[str, ...]:
    """Names of all devices that work here; each is tried in a process of its own.

    Args:
        tell: called with a line for each device that does not work.

    Raises:
        DeviceError: none works.
    """
    answer = ask("import", "onnxruntime", timeout=_PROBE_SECONDS)
    providers = answer.values.get("details", {}).get("providers", [])
    found = gather_devices(providers, _PROBE_SECONDS, usable=not answer.problem)
    for facts in found:
        if facts.tried and not facts.works:
            tell(f"{facts.name} is left out: {facts.problem}")
    working = tuple(facts.name for facts in found if facts.works)
    if not working:
        raise DeviceError(f"no device works here: {answer.problem or 'see salgan-edge doctor'}")
    return working


def default_threads() -> tuple[int, ...]:
    """1, 2, 4, ... and all CPUs that this process may use."""
    allowed = allowed_cpus()
    return (*(1 << power for power in range(allowed.bit_length()) if 1 << power < allowed), allowed)


def parse_numbers(text: str, option: str = "--threads") -> tuple[int, ...]:
    """Numbers with commas between, each once, rising.

    >>> parse_numbers("1,4,2")
    (1, 2, 4)

    Raises:
        OptionError: something else was given for the option.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() and 1 <= int(word) <= 1024 for word in words):
        raise OptionError(
            option, f"{text!r} was given: numbers from 1 to 1024 with commas between were expected"
        )
    return tuple(sorted({int(word) for word in words}))


def parse_frames(text: str) -> tuple[Frame, ...]:
    """Frame sizes with commas between, each once.

    >>> parse_frames("vga,1000x700")
    (Frame(width=640, height=480), Frame(width=1000, height=700))

    Raises:
        OptionError: something else.
    """
    found = []
    for word in text.lower().split(","):
        size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", word.strip())
        frame = Frame(int(size[1]), int(size[2])) if size else FRAMES.get(word.strip())
        if frame is None or not all(1 <= side <= _MOST_SIDE for side in frame):
            raise OptionError(
                "--frames",
                f"{word.strip()!r} was given: {', '.join(FRAMES)} or WIDTHxHEIGHT with commas between were expected",
            )
        found.append(frame)
    return tuple(dict.fromkeys(found))


def parse_duration(text: str) -> float:
    """Seconds of ``90s``, ``10m`` or ``2h``; of a bare number too.

    >>> parse_duration("1.5m")
    90.0

    Raises:
        OptionError: something else, or less than two seconds.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if seconds < 2:
        raise OptionError(
            "--soak", f"{text!r} was given: two seconds or more were expected, such as 90s, 10m or 2h"
        )
    return seconds
