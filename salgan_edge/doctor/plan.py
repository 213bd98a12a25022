"""From facts to what should be done: a pure function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from salgan_edge.doctor.device_problems import device_problems
from salgan_edge.doctor.problems import Problem, quoted
from salgan_edge.doctor.software_problems import extra_for, software_problems
from salgan_edge.doctor.video_problems import video_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salgan_edge.doctor.facts import Facts

__all__ = ["Plan", "make_plan"]

_ORDER = ("error", "warning", "note")


@dataclass(frozen=True)
class Plan:
    """Problems, the gravest first."""

    problems: tuple[Problem, ...]
    next: str
    """What to type when nothing keeps the main job from running."""

    @property
    def ready(self) -> bool:
        """The main job would run: an image is predicted on the default device, or on the one asked for."""
        return all(problem.severity != "error" for problem in self.problems)


def make_plan(facts: Facts) -> Plan:
    """Problems of the facts, each with the commands that mend it.

    Args:
        facts: of a machine, this one or a made-up one.
    """
    problems = [*software_problems(facts), *device_problems(facts), *video_problems(facts)]
    problems += _untold(facts, problems)
    problems += _managed(facts, problems)
    problems.sort(key=lambda problem: _ORDER.index(problem.severity))
    return Plan(tuple(problems), _next(facts))


def _untold(facts: Facts, problems: list[Problem]) -> Iterator[Problem]:
    """What failed in the examination itself, and a main job that no problem accounts for."""
    for part, reason in facts.failures.items():
        what = f"the part {part} of this examination failed ({reason}): please report it"
        yield Problem("note", "examination", what, ("salgan-edge doctor --json",))
    if not facts.bundle.tried and not any(problem.severity == "error" for problem in problems):
        what = "the bundle was not tried, so that nothing is known of predictions"
        yield Problem("error", "bundle", what, ("salgan-edge --debug verify",))


def _managed(facts: Facts, problems: list[Problem]) -> Iterator[Problem]:
    """Where pip refuses, its commands need an environment of one's own first."""
    pip = facts.python.pip
    wanted = any(command.startswith(pip) for problem in problems for command in problem.commands)
    if facts.python.externally_managed and wanted:
        what = "pip refuses to install into this system's own Python: make an environment first, then go on in it"
        commands = (
            "python3 -m venv ~/salgan-edge",
            ". ~/salgan-edge/bin/activate",
            f"pip install 'salgan-edge[{extra_for(facts)}]'",
        )
        yield Problem("note", "python", what, commands)


def _next(facts: Facts) -> str:
    bundle = "" if facts.bundle.bundle == "embedded" else f" --bundle {quoted(facts, facts.bundle.bundle)}"
    device = f" --device {facts.asked.device}" if facts.asked.device else ""
    return f'salgan-edge predict IMAGE "a red ball"{bundle}{device}'
