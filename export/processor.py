"""What the processor has for int8."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Processor", "read_processor"]

_CPUINFO = Path("/proc/cpuinfo")
_DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "asimddp")
"""Flags of instructions that multiply and add bytes: VNNI on x86, the dot product on Arm."""


@dataclass(frozen=True)
class Processor:
    """The processor that something was measured on."""

    model: str
    """``unknown`` where the system does not say."""
    vnni: bool | None
    """Whether it multiplies and adds bytes in one instruction; None where the system does not say."""

    @property
    def told(self) -> str:
        """In words, for tables."""
        words = {True: "with VNNI", False: "without VNNI", None: "VNNI unknown"}
        return f"{self.model}, {words[self.vnni]}"


def read_processor(path: Path = _CPUINFO) -> Processor:
    """The processor by ``/proc/cpuinfo``, where there is one."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Processor("unknown", None)
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags", fields.get("Features"))
    vnni = None if flags is None else bool(set(flags.split()) & set(_DOT_PRODUCTS))
    return Processor(fields.get("model name") or fields.get("Model") or "unknown", vnni)
