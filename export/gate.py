"""What a reduced precision may cost, in saliency metrics, and the photos with texts that it is calibrated and judged on."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from salgan_edge import contract, metrics, samples
from salgan_edge.cpus import allowed_cpus
from salgan_edge.errors import DataError
from salgan_edge.evaluate.measure import pairs_of, some_of
from salgan_edge.evaluate.models import resized
from salgan_edge.gaze.folder import GazeFolder, photos
from salgan_edge.images import IMAGE_SUFFIXES, read_image
from salgan_edge.resample import fit
from salgan_edge.result import SaliencyResult
from salgan_edge.session import load_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import onnx

    FloatMap = npt.NDArray[np.float32]
    Pixels = npt.NDArray[np.uint8]

__all__ = [
    "HUMAN",
    "PROMPTS_FILE",
    "SELF",
    "GateResult",
    "GraphRun",
    "Judge",
    "Limits",
    "View",
    "Views",
    "embed",
    "read_views",
]

HUMAN = "human maps"
SELF = "the fp32 graphs"

_ALIKE = 0.99


@dataclass(frozen=True)
class Limits:
    """What a variant may lose."""

    cc_drop: float = 0.01
    """Of the mean correlation with the reference."""
    guide_drop: float = 0.02
    """Of the share of text pairs that guide the prediction."""
    peak_move: float = 0.02
    """Distance of a peak from that of the fp32 map, as a share of the photo's diagonal."""
    peak_share: float = 0.95
    """Share of cases in which the peak must stay within it."""

    def halved(self) -> Limits:
        """Stricter limits, for choices made on calibration photos."""
        return Limits(self.cc_drop / 2, self.guide_drop / 2, self.peak_move, (1 + self.peak_share) / 2)


@dataclass(frozen=True)
class GateResult:
    """What a variant costs."""

    reference: str
    """`HUMAN`, or `SELF`: the variant's maps are then compared with those of the fp32 graphs."""
    photos: int
    pairs: int
    """Photos times texts."""
    cc_fp32: float
    """Mean correlation of the fp32 maps with the reference; 1 where they are the reference."""
    cc: float
    """That of the variant."""
    guide_pairs: int
    """Pairs of texts about one photo that `guide` is over."""
    guide_fp32: float | None
    """None where there are no such pairs."""
    guide: float | None
    peaks_within: float
    """Share of cases in which the peak moved by at most `Limits.peak_move`."""
    peak_move: float
    """Move of the peak that 95 % of cases do not exceed, as a share of the diagonal."""
    map_cc: float
    """Mean correlation of the variant's maps with those of the fp32 graphs, whatever the reference."""
    map_cc_least: float
    """The least of them."""
    limits: Limits

    @property
    def cc_drop(self) -> float:
        """Loss of correlation; negative for a gain."""
        return self.cc_fp32 - self.cc

    @property
    def guide_drop(self) -> float:
        """Loss of `guide`; negative for a gain, 0 where it cannot be had."""
        return 0.0 if self.guide is None or self.guide_fp32 is None else self.guide_fp32 - self.guide

    @property
    def failures(self) -> tuple[str, ...]:
        """What was found and what was allowed, for each limit that is missed."""
        # The differences of sums of floats: a loss of exactly the limit passes.
        slack = 1e-9
        failed = []
        # Written so that NaN fails.
        if not self.cc_drop <= self.limits.cc_drop + slack:
            failed.append(f"CC drops by {self.cc_drop:.4f} (at most {self.limits.cc_drop:g})")
        if not self.guide_drop <= self.limits.guide_drop + slack:
            failed.append(f"guide drops by {self.guide_drop:.4f} (at most {self.limits.guide_drop:g})")
        if not self.peaks_within >= self.limits.peak_share - slack:
            failed.append(
                f"the peak stays within {self.limits.peak_move:.0%} of the diagonal in {self.peaks_within:.1%} of cases "
                f"(at least {self.limits.peak_share:.1%})"
            )
        return tuple(failed)

    @property
    def passed(self) -> bool:
        """Whether every limit is kept."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """All figures, for reports."""
        return {
            **asdict(self),
            "cc_drop": self.cc_drop,
            "guide_drop": self.guide_drop,
            "failures": list(self.failures),
            "passed": self.passed,
        }


class Judge:
    """Compares maps of a variant with those of the fp32 graphs, and with human maps where there are any.

    Args:
        views: photos and texts; all with human maps, or none.
        maps: of the fp32 graphs for each view, (texts, h, w).
        limits: what a variant may lose.
    """

    def __init__(self, views: Sequence[View], maps: Sequence[FloatMap], limits: Limits) -> None:
        self.views = tuple(views)
        self.limits = limits
        self._human = bool(views[0].human)
        self._own = [self._compared(view, grid) for view, grid in zip(views, maps, strict=True)]
        self._cc = [
            [metrics.cc(own, human) for own, human in zip(maps, self._reference(n), strict=True)]
            for n, (maps, _) in enumerate(self._own)
        ]
        self._pairs = [
            (n, pair) for n, view in enumerate(views) for pair in view.guided if self._told(n, pair)
        ]

    def judge(self, maps: Sequence[FloatMap]) -> GateResult:
        """What a variant costs whose maps for each view are (texts, h, w), on the views' grid or another."""
        cc: list[float] = []
        agreement: list[float] = []
        moves: list[float] = []
        compared = [self._compared(view, grid) for view, grid in zip(self.views, maps, strict=True)]
        for n, (values, peaks) in enumerate(compared):
            own, own_peaks = self._own[n]
            height, width = self.views[n].photo.shape[:2]
            diagonal = float(np.hypot(width, height))
            agreement += [_cc(one, other) for one, other in zip(values, own, strict=True)]
            cc += [_cc(one, human) for one, human in zip(values, self._reference(n), strict=True)]
            moves += [
                float(np.hypot(x - own_x, y - own_y)) / diagonal
                for (x, y), (own_x, own_y) in zip(peaks, own_peaks, strict=True)
            ]
        return GateResult(
            reference=HUMAN if self._human else SELF,
            photos=len(self.views),
            pairs=len(cc),
            cc_fp32=float(np.mean([value for values in self._cc for value in values])),
            cc=float(np.mean(cc)),
            guide_pairs=len(self._pairs),
            guide_fp32=self._guide([values for values, _ in self._own]),
            guide=self._guide([values for values, _ in compared]),
            peaks_within=float(np.mean(np.array(moves) <= self.limits.peak_move)),
            peak_move=float(np.percentile(moves, 95)),
            map_cc=float(np.mean(agreement)),
            map_cc_least=float(np.min(agreement)),
            limits=self.limits,
        )

    def _compared(self, view: View, grid: FloatMap) -> tuple[list[FloatMap], list[tuple[int, int]]]:
        """Maps as a user gets them, brought to the reference's size, and their peaks in pixels."""
        results = [SaliencyResult.from_grid(view.photo, None, values) for values in grid]
        peaks = [result.peak for result in results]
        if not view.human:
            # The graph's own grid holds all there is to compare.
            return list(grid), peaks
        return [
            resized(result.map, human.shape) for result, human in zip(results, view.human, strict=True)
        ], peaks

    def _reference(self, n: int) -> Sequence[FloatMap]:
        return self.views[n].human if self._human else self._own[n][0]

    def _told(self, n: int, pair: tuple[int, int]) -> bool:
        """Whether a pair of texts says anything: fp32 maps that are alike tell them apart by chance."""
        own = self._own[n][0]
        return self._human or metrics.cc(own[pair[0]], own[pair[1]]) < _ALIKE

    def _guide(self, maps: Sequence[Sequence[FloatMap]]) -> float | None:
        if not self._pairs:
            return None
        cases = []
        for n, (first, second) in self._pairs:
            reference = self._reference(n)
            cases.append((maps[n][first], maps[n][second], reference[first], reference[second]))
        return metrics.guide(cases)


def _cc(one: FloatMap, other: FloatMap) -> float:
    """Correlation; 0 where overflows left no numbers."""
    return metrics.cc(one, other) if np.isfinite(one).all() else 0.0


CALIBRATION_PROMPTS = (
    "a person",
    "a cup on a table",
    "the eyes of an animal",
    "something red",
    "text or a sign",
)
GATE_PROMPTS = ("a face", "a spoon", "the background on the left", "a flag", "the ears of a cat")
"""Other texts than those of calibration; the first of each view is free viewing."""

PROMPTS_FILE = "prompts.txt"
"""In a folder of one's own photos: a text in each line, used in place of the two lists above."""

_CALIBRATION_PHOTOS = 24
_GATE_PHOTOS = 48
_LONGEST = 640


@dataclass(frozen=True)
class View:
    """A photo with texts."""

    name: str
    photo: Pixels = field(repr=False)
    """RGB (H, W, 3)."""
    texts: tuple[str | None, ...]
    """None is free viewing."""
    human: tuple[FloatMap, ...] = field(default=(), repr=False)
    """Human saliency map for each text; empty where there are none."""
    guided: tuple[tuple[int, int], ...] = ()
    """Pairs of texts, by number, between which `guide` decides."""
    fitted: Pixels | None = field(default=None, repr=False)
    """The photo as `SaliencyPredictor.predict` gives it to the graph; see `Views.fit`."""

    @property
    def given(self) -> Pixels:
        """What the graph is given."""
        return self.photo if self.fitted is None else self.fitted


@dataclass(frozen=True)
class Views:
    """Two sets of views without a photo in common, and without a text in common where nobody gave texts."""

    calibration: tuple[View, ...]
    gate: tuple[View, ...]
    source: str
    """Where both come from, for reports."""

    @property
    def human(self) -> bool:
        """Whether the gate has human maps."""
        return bool(self.gate[0].human)

    def fit(self, height: int, width: int) -> Views:
        """The same views, their photos fitted to a generator's input of `height` x `width` pixels."""
        calibration, gate = (
            tuple(replace(view, fitted=fit(view.photo, height, width)) for view in views)
            for views in (self.calibration, self.gate)
        )
        return Views(calibration, gate, self.source)


def read_views(data: Path | None = None, calibration: Path | None = None) -> Views:
    """Views to calibrate on and to judge by.

    Args:
        data: packed gaze folder. Its validation photos with their human maps are the gate, photos of
            its training split the calibration.
        calibration: folder of photos. They are the calibration, or where there is no `data` divided
            by a hash of the file into both. `PROMPTS_FILE` in it may give texts.

    Without either, the sample photos that the package ships are divided: their left halves, mirrored
    and recoloured, are the calibration, their right halves the gate.

    Raises:
        DataError: a folder cannot be used, or has too few photos.
        ImageError: a photo cannot be read.
    """
    own = None if calibration is None else _own_photos(calibration)
    if data is None:
        if own is None:
            left, right = _sample_views()
            return Views(left, right, "sample photos, left halves and right halves")
        return Views(*own, f"photos of {calibration}, divided by a hash of each file")
    folder = GazeFolder(data)
    gate = _gaze_views(folder, "validation", None, human=True)
    if own is not None:
        return Views(own[0] + own[1], gate, f"photos of {calibration}; {folder.name}, split validation")
    if folder.select("train"):
        told = f"{folder.name}, split train; {folder.name}, split validation"
        return Views(_gaze_views(folder, "train", _CALIBRATION_PHOTOS, human=False), gate, told)
    left, right = _sample_views()
    return Views(left + right, gate, f"sample photos; {folder.name}, split validation")


def _gaze_views(folder: GazeFolder, split: str, limit: int | None, *, human: bool) -> tuple[View, ...]:
    views = []
    for group in some_of(list(photos(pairs_of(folder, split)).values()), limit):
        order = {pair.condition: n for n, pair in enumerate(group)}
        both = {"salient", "nonsalient"} <= set(order)
        views.append(
            View(
                name=group[0].image,
                photo=folder.image(group[0].image),
                texts=tuple(pair.text or None for pair in group),
                human=tuple(folder.saliency_map(pair) for pair in group) if human else (),
                guided=((order["salient"], order["nonsalient"]),) if both else (),
            )
        )
    return tuple(views)


def _own_photos(folder: Path) -> tuple[tuple[View, ...], tuple[View, ...]]:
    """Views of a folder of photos, divided by the first bit of the SHA-256 of each file.

    A copy of a photo so falls on the same side.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: a folder of photos was expected for --calibration")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    prompts = _prompts(folder)
    sides: tuple[list[View], list[View]] = ([], [])
    for path in files:
        side = hashlib.sha256(path.read_bytes()).digest()[0] >> 7
        if len(sides[side]) < (_CALIBRATION_PHOTOS, _GATE_PHOTOS)[side]:
            texts = (None, *(prompts[side::2] or prompts))
            sides[side].append(_view(path.name, _shrunk(read_image(path)), texts))
    if not sides[0] or not sides[1]:
        raise DataError(
            f"{folder} has {len(files)} photos, of which {len(sides[0])} fall to calibration and {len(sides[1])} to the gate: "
            "both need some, add photos (a dozen or more)"
        )
    return tuple(sides[0]), tuple(sides[1])


def _prompts(folder: Path) -> list[str]:
    """Texts of a folder, or in turn those of calibration and of the gate."""
    given = folder / PROMPTS_FILE
    if not given.is_file():
        return [text for both in zip(CALIBRATION_PROMPTS, GATE_PROMPTS, strict=True) for text in both]
    try:
        lines = given.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read {given}: {error}; a text in each line was expected, in UTF-8"
        ) from error
    texts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if len(texts) < 2:
        raise DataError(f"{given} has {len(texts)} texts: at least 2 were expected, one in each line")
    return texts


def _sample_views() -> tuple[tuple[View, ...], tuple[View, ...]]:
    """Left and right halves of the sample photos: no pixel and no text is on both sides."""
    sides: tuple[list[View], list[View]] = ([], [])
    for name in samples.NAMES:
        photo = samples.load(name)
        middle = photo.shape[1] // 2
        halves = ((photo[:, :middle], CALIBRATION_PROMPTS), (photo[:, middle:], GATE_PROMPTS))
        for side, (half, prompts) in zip(sides, halves, strict=True):
            for look, pixels in _looks(half):
                side.append(_view(f"{name}, {look}", pixels, (None, *prompts)))
    return tuple(sides[0]), tuple(sides[1])


def _looks(photo: Pixels) -> list[tuple[str, Pixels]]:
    """A photo in other parts, turns and colours."""
    height, width = photo.shape[:2]
    side = min(height, width)
    middle, left = (height - side) // 2, (width - side) // 2
    square = photo[middle : middle + side, left : left + side]
    grey = np.repeat(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    bright = 255 * (np.arange(256) / 255) ** 0.6
    dark = 0.55 * np.arange(256)
    looks = [
        ("whole", photo),
        ("mirrored square", square[:, ::-1]),
        ("upper part", photo[: height * 2 // 3]),
        ("lower part, mirrored", photo[height // 3 :, ::-1]),
        ("dark", dark.astype(np.uint8)[square]),
        ("bright, colours exchanged", bright.astype(np.uint8)[photo[..., ::-1]]),
        ("grey", np.asarray(grey, np.uint8)),
    ]
    return [(name, np.ascontiguousarray(pixels)) for name, pixels in looks]


def _view(name: str, photo: Pixels, texts: tuple[str | None, ...]) -> View:
    """A view without human maps: `guide` decides between every two texts."""
    told = [n for n, text in enumerate(texts) if text is not None]
    return View(name, photo, texts, guided=tuple(combinations(told, 2)))


def _shrunk(photo: Pixels) -> Pixels:
    scale = _LONGEST / max(photo.shape[:2])
    if scale >= 1:
        return photo
    size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
    return np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)


class GraphRun:
    """A graph in memory on the CPU, all of whose tensors may be asked for."""

    def __init__(self, model: onnx.ModelProto) -> None:
        onnxruntime = load_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = allowed_cpus()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(
        self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]
    ) -> list[npt.NDArray[Any]]:
        """Values of some outputs."""
        values: list[npt.NDArray[Any]] = self._session.run(list(outputs), dict(inputs))
        return values

    def maps(
        self, photo: npt.NDArray[np.uint8], vectors: npt.NDArray[np.float32], **more: npt.NDArray[Any]
    ) -> npt.NDArray[np.float32]:
        """Saliency (N, h, w) of one photo (H, W, 3) for text vectors (N, dimension)."""
        inputs: dict[str, npt.NDArray[Any]] = {
            contract.IMAGE: photo[None],
            contract.TEXT_EMBEDDING: vectors[None],
            **more,
        }
        maps: npt.NDArray[np.float32] = self([contract.SALIENCY], inputs)[0][0]
        return maps


def embed(encoder: GraphRun, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Text vectors (N, dimension) of token ids (N, 77), one text at a time as the runtime may ask for them."""
    rows = [encoder([contract.TEXT_EMBEDDING], {contract.INPUT_IDS: row[None]})[0] for row in ids]
    return np.concatenate(rows)
