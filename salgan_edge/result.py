"""What a prediction is: a saliency map with its photo and prompt."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from salgan_edge.errors import OutputError
from salgan_edge.files import writing
from salgan_edge.images import IMAGE_SUFFIXES, write_image

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Peak", "SaliencyResult"]


class Peak(NamedTuple):
    """A local maximum of a saliency map."""

    x: int
    """Column in pixels."""
    y: int
    """Row in pixels."""
    value: float
    """Saliency there, 0..1."""


@dataclass
class SaliencyResult:
    """Saliency of one image for one prompt."""

    map: npt.NDArray[np.float32]
    """Fixation density relative to the largest cell of the generator's grid: float32 (H, W), 0..1, at the image's size."""
    image: npt.NDArray[np.uint8]
    """The photo, RGB (H, W, 3)."""
    text: str | None
    """The prompt; None for free viewing."""
    milliseconds: dict[str, float] = field(default_factory=dict)
    """Time of each stage: decode, text, generator, resize."""

    @staticmethod
    def from_grid(
        image: npt.NDArray[np.uint8], text: str | None, grid: npt.NDArray[np.float32]
    ) -> SaliencyResult:
        """Enlarge the generator's grid (h, w) to the photo; see `salgan_edge.resample.enlarge`."""
        from salgan_edge.resample import enlarge  # noqa: PLC0415 - keeps `import salgan_edge` light

        return SaliencyResult(enlarge(grid, image.shape[1], image.shape[0]), image, text)

    @property
    def peak(self) -> tuple[int, int]:
        """Where the map is largest: (x, y) in pixels; the middle one where several pixels are."""
        first = np.unravel_index(int(self.map.argmax()), self.map.shape)
        # Between cells of the grid that are equal lies a plateau, whose first pixel is its corner.
        rows, columns = np.nonzero(self.map == self.map[first])
        if not rows.size:  # not a number, which equals nothing
            return int(first[1]), int(first[0])
        middle = int(((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2).argmin())
        return int(columns[middle]), int(rows[middle])

    def peaks(self, count: int = 5) -> list[Peak]:
        """The largest local maxima, largest first; the first is `peak`.

        A maximum is a pixel that is the largest within 5 % of the image's longer side, and at least
        a twentieth of the largest. Fewer are returned if there are fewer.
        """
        import cv2  # noqa: PLC0415

        scale = min(1.0, 256 / max(self.map.shape))
        size = (max(1, round(self.map.shape[1] * scale)), max(1, round(self.map.shape[0] * scale)))
        small = cv2.resize(self.map, size, interpolation=cv2.INTER_AREA)
        reach = 2 * max(1, round(0.05 * max(small.shape))) + 1
        around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
        maxima = (small >= cv2.dilate(small, around)) & (small >= small.max() / 20)
        rows, columns = np.nonzero(maxima)
        x, y = self.peak
        found = [Peak(x, y, float(self.map[y, x]))]
        for index in np.argsort(-small[rows, columns], kind="stable"):
            # Pixel centres of the small map, in pixels of the large one.
            px = min(int((columns[index] + 0.5) * self.map.shape[1] / size[0]), self.map.shape[1] - 1)
            py = min(int((rows[index] + 0.5) * self.map.shape[0] / size[1]), self.map.shape[0] - 1)
            apart = 0.05 * max(self.map.shape)
            if all((px - p.x) ** 2 + (py - p.y) ** 2 > apart**2 for p in found):
                found.append(Peak(px, py, float(self.map[py, px])))
            if len(found) == count:
                break
        # Found in the order of a smaller map, whose values differ a little.
        return [*found[:1], *sorted(found[1:count], key=lambda peak: -peak.value)]

    def overlay(self) -> npt.NDArray[np.uint8]:
        """The photo with the map laid over it in colour, RGB uint8 (H, W, 3)."""
        from salgan_edge.render import overlay  # noqa: PLC0415

        return overlay(self.image, self.map)

    def save(self, path: str | Path) -> None:
        """Write the result; the suffix picks what.

        ``.npy`` is the map as float32; any image suffix (``.png``, ``.jpg``, ...) is the overlay.

        Raises:
            OutputError: another suffix, or the place cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() == ".npy":
            with writing(path) as temporary:
                np.save(temporary, self.map)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            write_image(path, self.overlay())
        else:
            raise OutputError(
                f"cannot write {path}: {path.suffix or 'no suffix'} is unknown; use .png, .jpg or .npy"
            )

    def save_map(self, path: str | Path) -> None:
        """Write the bare map: 16-bit grey for an image suffix (0..65535 for 0..1), float32 for ``.npy``.

        Raises:
            OutputError: another suffix, or the place cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() == ".npy":
            self.save(path)
            return
        if path.suffix.lower() not in (".png", ".tif", ".tiff"):
            raise OutputError(
                f"cannot write {path}: {path.suffix or 'no suffix'} holds no 16-bit map; use .png, .tif or .npy"
            )
        write_image(path, np.rint(self.map * 65535).astype(np.uint16))
