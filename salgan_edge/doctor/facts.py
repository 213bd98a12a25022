"""Everything that was found out, in one object."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from salgan_edge.doctor.bundle import BundleFacts
from salgan_edge.doctor.cameras import Cameras
from salgan_edge.doctor.cuda import Cuda
from salgan_edge.doctor.opencv import Display, OpenCV
from salgan_edge.doctor.packages import Packages
from salgan_edge.doctor.system import Processor, Python, System

if TYPE_CHECKING:
    from salgan_edge.doctor.devices import DeviceFacts

__all__ = ["Asked", "Facts"]


@dataclass(frozen=True)
class Asked:
    """What the user wants to know."""

    device: str | None = None
    """The only device to try; None for all, and the default one for the bundle."""
    bundle: str = "embedded"
    cameras: bool = True
    timeout: float = 30.0
    """Seconds for one question."""


@dataclass(frozen=True)
class Facts:
    """What `examine` found. Every part has a default, for where it failed."""

    asked: Asked = field(default_factory=Asked)
    python: Python = field(default_factory=Python)
    system: System = field(default_factory=System)
    processor: Processor = field(default_factory=Processor)
    packages: Packages = field(default_factory=Packages)
    devices: tuple[DeviceFacts, ...] = ()
    cuda: Cuda = field(default_factory=Cuda)
    opencv: OpenCV = field(default_factory=OpenCV)
    display: Display = field(default_factory=Display)
    cameras: Cameras = field(default_factory=Cameras)
    bundle: BundleFacts = field(default_factory=BundleFacts)
    failures: dict[str, str] = field(default_factory=dict)
    """Parts of the examination itself that raised an error, and which."""
    seconds: float = 0.0
    """That the examination took."""

    def device(self, name: str) -> DeviceFacts | None:
        """Facts about a device; None where it was not looked at."""
        return next((device for device in self.devices if device.name == name), None)
