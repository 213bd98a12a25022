"""What a prediction is: a saliency map with its photo and prompt."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from salgan_edge.errors import InputError, OutputError
from salgan_edge.files import writing
from salgan_edge.images import IMAGE_SUFFIXES, encode_image, write_image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

__all__ = ["RECORD_VERSION", "Peak", "SaliencyResult", "TextEffect", "record"]

RECORD_VERSION = 1
"""Version of the record's fields, ``schema_version`` in it; ``record.schema.json`` describes them."""

_DEEP = (".png", ".tif", ".tiff")
"""Suffixes of images that hold 16 bits."""
_SHOWN = 1024
"""Longer side in pixels of the picture in a notebook."""


class Peak(NamedTuple):
    """A local maximum of a saliency map."""

    x: int
    """Column in pixels."""
    y: int
    """Row in pixels."""
    value: float
    """Saliency there, 0..1."""


class TextEffect(NamedTuple):
    """What a text changes, against free viewing of the same image.

    >>> import numpy as np
    >>> from salgan_edge import TextEffect
    >>> TextEffect.of(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]))
    TextEffect(correlation=0.0, moved=0.5)
    """

    correlation: float
    """Of both maps, -1..1: near 1 where the text changes nothing, because it names nothing that is there
    or what everybody looks at anyway."""
    moved: float
    """Share of the attention that is elsewhere when told, 0..1: half the sum of absolute differences of both
    densities."""

    @staticmethod
    def of(told: npt.NDArray[np.float32], free: npt.NDArray[np.float32]) -> TextEffect:
        """Compare two maps (h, w), such as the generator's grids."""
        from salgan_edge.metrics import cc, sim  # noqa: PLC0415 - keeps `import salgan_edge` light

        return TextEffect(cc(told, free), 1 - sim(told, free))


@dataclass(eq=False, repr=False)
class SaliencyResult:
    """Saliency of one image for one prompt.

    >>> import numpy as np
    >>> from salgan_edge import SaliencyResult
    >>> grid = np.zeros((4, 4), np.float32); grid[1, 2] = 1
    >>> result = SaliencyResult.from_grid(np.zeros((40, 40, 3), np.uint8), "a dot", grid)
    >>> result
    SaliencyResult('a dot', 40x40, peak (24, 14))
    """

    map: npt.NDArray[np.float32]
    """Fixation density relative to the largest cell of the generator's grid: float32 (H, W), 0..1, at the image's size."""
    image: npt.NDArray[np.uint8]
    """The photo, RGB (H, W, 3)."""
    text: str | None
    """The prompt; None for free viewing."""
    milliseconds: dict[str, float] = field(default_factory=dict)
    """Time of each stage: decode, text, generator, resize."""
    text_effect: TextEffect | None = None
    """What the text changed, where that was asked for; None for free viewing."""
    device: str | None = None
    """Where the generator ran."""
    bundle_id: str | None = None
    """Of the bundle that predicted."""
    placement: Mapping[str, int] | None = None
    """Number of the generator's operators on each execution provider, where there is a record."""

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

    def peaks(self, k: int = 5, threshold: float = 0.05) -> list[Peak]:
        """The largest local maxima, largest first; the first is `peak`.

        A maximum is a pixel that is the largest within 5 % of the image's longer side.

        Args:
            k: how many at most.
            threshold: share of the largest value, 0..1, that a maximum has at least. Fewer than `k` are
                returned if fewer have it.

        Raises:
            InputError: `k` is below 1, or the threshold out of range.
        """
        if k < 1 or not 0 <= threshold <= 1:
            raise InputError(
                f"{k} peaks above {threshold} were asked for: at least 1, and a threshold of 0 to 1, were expected"
            )
        import cv2  # noqa: PLC0415

        scale = min(1.0, 256 / max(self.map.shape))
        size = (max(1, round(self.map.shape[1] * scale)), max(1, round(self.map.shape[0] * scale)))
        small = cv2.resize(self.map, size, interpolation=cv2.INTER_AREA)
        reach = 2 * max(1, round(0.05 * max(small.shape))) + 1
        around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
        maxima = (small >= cv2.dilate(small, around)) & (small >= threshold * small.max())
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
            if len(found) == k:
                break
        # Found in the order of a smaller map, whose values differ a little.
        return [*found[:1], *sorted(found[1:k], key=lambda peak: -peak.value)]

    def overlay(self, opacity: float = 0.75) -> npt.NDArray[np.uint8]:
        """The photo with the map laid over it in colour, RGB uint8 (H, W, 3).

        Args:
            opacity: of the most salient place, 0..1.
        """
        from salgan_edge.render import overlay  # noqa: PLC0415

        return overlay(self.image, self.map, opacity)

    def to_dict(
        self,
        *,
        peaks: int = 5,
        file: str | os.PathLike[str] | None = None,
        files: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The record of the prediction, ready for JSON: the same as of every command; see `record`.

        Args:
            peaks: how many peaks at most.
            file: the image's.
            files: what was written, such as ``{"overlay": path}``.
        """
        return record(
            "image",
            self.text,
            (self.map.shape[1], self.map.shape[0]),
            self.peaks(peaks),
            file=file,
            text_effect=self.text_effect,
            milliseconds=self.milliseconds,
            device=self.device,
            placement=self.placement,
            bundle_id=self.bundle_id,
            files=files,
        )

    def to_bytes(self, format: str = "png", *, bare: bool = False) -> bytes:  # noqa: A002 - as Pillow names it
        """The content of the file that `save` or `save_map` writes.

        Args:
            format: ``png``, ``jpg``, ``webp``, ... for a picture, ``npy`` for the map as float32.
            bare: the map alone as 16-bit grey, in place of the overlay: ``png`` or ``tif``.

        Raises:
            OutputError: no such format, or one that does not hold it.
        """
        suffix = f".{format.lower().removeprefix('.')}"
        if suffix == ".npy":
            file = io.BytesIO()
            np.save(file, self.map)
            return file.getvalue()
        if bare:
            if suffix not in _DEEP:
                raise OutputError(f"{format} holds no 16-bit map: png, tif or npy was expected")
            return encode_image(np.rint(self.map * 65535).astype(np.uint16), suffix)
        return encode_image(self.overlay(), suffix)

    def save(self, path: str | os.PathLike[str]) -> None:
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
                f"cannot write {path}: {f'{path.suffix} is unknown' if path.suffix else 'it has no suffix'}; use .png, .jpg or .npy"
            )

    def save_map(self, path: str | os.PathLike[str]) -> None:
        """Write the bare map: 16-bit grey for an image suffix (0..65535 for 0..1), float32 for ``.npy``.

        Raises:
            OutputError: another suffix, or the place cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() == ".npy":
            self.save(path)
            return
        if path.suffix.lower() not in _DEEP:
            raise OutputError(
                f"cannot write {path}: {path.suffix or 'no suffix'} holds no 16-bit map; use .png, .tif or .npy"
            )
        write_image(path, np.rint(self.map * 65535).astype(np.uint16))

    def __repr__(self) -> str:
        """Text, size and peak in a line."""
        text = "free viewing" if self.text is None else repr(self.text)
        return f"SaliencyResult({text}, {self.map.shape[1]}x{self.map.shape[0]}, peak {self.peak})"

    def _repr_png_(self) -> bytes:
        """The overlay, for notebooks."""
        import cv2  # noqa: PLC0415

        shown = self.overlay()
        scale = _SHOWN / max(shown.shape[:2])
        if scale < 1:
            size = (max(1, round(shown.shape[1] * scale)), max(1, round(shown.shape[0] * scale)))
            shown = cv2.resize(shown, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        return encode_image(shown, ".png")


def record(
    kind: str,
    text: str | None,
    size: tuple[int, int],
    peaks: Sequence[Peak],
    *,
    file: str | os.PathLike[str] | None = None,
    frame: Mapping[str, Any] | None = None,
    text_effect: TextEffect | None = None,
    milliseconds: Mapping[str, float] | None = None,
    device: str | None = None,
    placement: Mapping[str, int] | None = None,
    bundle_id: str | None = None,
    files: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One prediction as commands, streams and servers describe it, in words that JSON knows.

    There is a record for each image and text, and for each frame and text; ``record.schema.json``, which is
    installed with the package, is their JSON Schema.

    Args:
        kind: ``image`` or ``frame``.
        text: what the viewer was told.
        size: width and height in pixels.
        peaks: largest first.
        file: image, video or source.
        frame: of a frame: ``index``, ``time`` in seconds, and what else is known of it.
        text_effect: against free viewing.
        milliseconds: time of each stage.
        device: where the generator ran.
        placement: number of operators on each execution provider.
        bundle_id: of the bundle.
        files: written: path of each, by what it is.
    """
    return {
        "schema_version": RECORD_VERSION,
        "type": kind,
        **({} if file is None else {"file": os.fspath(file)}),
        **(frame or {}),
        "width": size[0],
        "height": size[1],
        "text": text,
        "peak": {"x": peaks[0].x, "y": peaks[0].y},
        "peaks": [{"x": peak.x, "y": peak.y, "value": round(peak.value, 4)} for peak in peaks],
        "text_effect": None
        if text_effect is None
        else {"correlation": round(text_effect.correlation, 4), "moved": round(text_effect.moved, 4)},
        "milliseconds": {stage: round(elapsed, 3) for stage, elapsed in (milliseconds or {}).items()},
        **({} if device is None else {"device": device}),
        **({} if placement is None else {"operators": dict(placement)}),
        **({} if bundle_id is None else {"bundle": bundle_id}),
        **({} if files is None else {"files": {what: _paths(path) for what, path in files.items()}}),
    }


def _paths(path: Any) -> str | list[str]:
    return [os.fspath(one) for one in path] if isinstance(path, (list, tuple)) else os.fspath(path)
