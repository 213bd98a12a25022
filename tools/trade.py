"""What accuracy costs: generators scored on validation photos and timed in turn, in one run.

A generator can be shown photos at another size than it was trained on, and its second backbone smaller ones than the
first; each is a row. None of it needs a bundle: graphs are converted in memory.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from salgan_edge.benchmarks.peers.networks import neck_peer
from salgan_edge.benchmarks.peers.peer import needs_export

from salgan_edge import contract
from salgan_edge.devices import Execution
from salgan_edge.errors import InputError
from salgan_edge.session import GraphSession
from salgan_edge.timing import Ratio, Stats, interleave, random_photo, random_texts, ratio_interval
from tools.measuring import NeckOption, RunsOption, ThreadsOption

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from salgan_edge.train.networks.generator import Generator

__all__ = ["Candidate", "Row", "main", "measure_trade", "to_markdown"]

_NECK_SIDE = 256
_COLUMNS = ("all", "whole", "nonsalient", "guide", "noun", "attr", "rel")
_SPEC = re.compile(r"(?:(?P<name>[^=@]+)=)?(?P<file>[^@]+)(?:@(?P<size>\d+)(?:@(?P<eyes>[\d.]+))?)?")


@dataclass(frozen=True)
class Candidate:
    """A checkpoint, and what its network is shown."""

    name: str
    """Of the row."""
    checkpoint: Path
    size: int | None = None
    """Side of the input in pixels; the checkpoint's own where None."""
    eye_scale: float | None = None
    """Side of what the second backbone is shown, against it; the checkpoint's own where None."""

    @classmethod
    def parse(cls, spec: str) -> Candidate:
        """Read ``[NAME=]CHECKPOINT[@SIZE[@EYE_SCALE]]``.

        >>> Candidate.parse("wide=a.safetensors@320@0.7")
        Candidate(name='wide', checkpoint=PosixPath('a.safetensors'), size=320, eye_scale=0.7)

        Raises:
            ValueError: it is none.
        """
        found = _SPEC.fullmatch(spec.strip())
        if found is None:
            raise ValueError(f"{spec!r} is no [NAME=]CHECKPOINT[@SIZE[@EYE_SCALE]]")
        name, file, size, eyes = found.group("name", "file", "size", "eyes")
        label = (name or spec).strip()
        return cls(label, Path(file), int(size) if size else None, float(eyes) if eyes else None)


@dataclass(frozen=True)
class Row:
    """One candidate, measured."""

    name: str
    stats: Stats
    """Of one photo and one prompt, text vectors given."""
    by_neck: Ratio
    """Likewise, by YOLOX-Nano's backbone and neck at 256x256."""
    macs: int
    """Multiplications of one photo and one prompt."""
    bytes: int
    """Of the generator's graph, weights in half precision."""
    scores: dict[str, float]
    """On the validation photos, on the network's own grid."""


def measure_trade(
    candidates: Sequence[Candidate],
    data: Path,
    text_encoder: Path | None = None,
    *,
    neck: Path | None = None,
    threads: int = 1,
    runs: int = 200,
    progress: Callable[[str], object] = lambda _: None,
) -> list[Row]:
    """Score every candidate, then time all of them and the neck in turn.

    Args:
        candidates: at least one.
        data: folder that holds ``sjtu_tis`` and ``phrases/labels.csv``.
        text_encoder: folder of the text encoder whose vectors the generators are given; the released
            one where None.
        neck: ``yolox_nano_coco.onnx``; looked for in ``../shared/weights`` where None.
        threads: CPU threads.
        runs: of each at least.
        progress: called with a line about what is being done.

    Raises:
        CheckpointError: a checkpoint cannot be used.
        DataError: the data cannot be.
        InputError: `neck` cannot be read.
        PeerUnavailableError: there is no neck to compare with, or the extra export is not installed.
    """
    with needs_export():
        import torch  # noqa: PLC0415 - needs the extra export
        from salgan_edge.train import released  # noqa: PLC0415
        from salgan_edge.train.config import TrainConfig  # noqa: PLC0415
        from salgan_edge.train.data.named import find_phrase_sets  # noqa: PLC0415
        from salgan_edge.train.networks.edge import DOMAINS  # noqa: PLC0415
        from salgan_edge.train.networks.text_encoder import make_encoder  # noqa: PLC0415
        from salgan_edge.train.setup import resizer  # noqa: PLC0415
        from salgan_edge.train.validate import Validation  # noqa: PLC0415

        from salgan_edge.gaze.folder import GazeFolder  # noqa: PLC0415
    torch.set_num_threads(threads)
    # First, for it is the likeliest to be missing.
    base = neck_peer(neck, _NECK_SIDE, threads)
    encode, gaze = make_encoder(text_encoder or released.TEXT_ENCODER), GazeFolder(data / DOMAINS[0])
    labels = next(iter(find_phrase_sets(data, lambda name: name == "labels")), None)
    validations: dict[int, Validation] = {}
    subjects: dict[str, Callable[[], object]] = {"neck": base.run}
    scored: list[tuple[Candidate, dict[str, float], int, int]] = []
    for candidate in candidates:
        progress(f"{candidate.name}: scoring")
        model = _load(candidate)
        size = model.preprocess.size
        if size not in validations:
            config = TrainConfig(size=size)
            validations[size] = Validation(gaze, resizer(size), encode, config, model.grid, labels)
        scores, _ = validations[size].score(model)
        graph, macs = _graph(model)
        subjects[candidate.name] = _run(candidate.name, graph, size, threads)
        scored.append((candidate, scores, macs, len(graph)))
    if len(subjects) <= len(candidates):
        raise InputError("two rows have one name: give each its own, NAME=CHECKPOINT")
    progress("timing all of them in turn")
    stats = interleave(subjects, min_runs=runs, min_blocks=min(10, runs))
    return [
        Row(
            candidate.name, stats[candidate.name],
            ratio_interval(stats[candidate.name].blocks, stats["neck"].blocks), macs, length, scores,
        )
        for candidate, scores, macs, length in scored
    ]  # fmt: skip


def to_markdown(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    columns = [key for key in _COLUMNS if any(key in row.scores for row in rows)]
    heads = ["", "necks", "95 % interval", "ms", "G multiplications", "MB", *columns]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        ratio = row.by_neck
        cells = [
            row.name, f"{ratio.ratio:.2f}", f"{ratio.low:.2f} to {ratio.high:.2f}", f"{row.stats.median_ms:.2f}",
            f"{row.macs / 1e9:.3f}", f"{row.bytes / 1e6:.1f}",
        ]  # fmt: skip
        cells += [f"{row.scores[key]:.3f}" if key in row.scores else "" for key in columns]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _load(candidate: Candidate) -> Generator:
    """The network, with weights rounded to half precision as they are shipped."""
    from salgan_edge.train.checkpoint import build, load_generator  # noqa: PLC0415 - needs torch

    model, description = load_generator(candidate.checkpoint, candidate.size)
    if candidate.eye_scale is not None:
        if "eyes" not in description.arguments:
            raise InputError(f"{candidate.checkpoint} has no second backbone: leave out the second @")
        arguments: dict[str, Any] = {**description.arguments, "eye_scale": candidate.eye_scale}
        scaled = build(dataclasses.replace(description, arguments=arguments))
        scaled.load_state_dict(model.state_dict())
        model = scaled
    return model.half().float().eval()


def _graph(model: Generator) -> tuple[bytes, int]:
    """The exported graph, and its multiplications."""
    from salgan_edge.export.convert import (  # noqa: PLC0415
        GENERATOR_DIMENSIONS,
        convert,
        generator_example,
    )
    from salgan_edge.export.facts import count_macs  # noqa: PLC0415

    content = convert(
        model.for_export(), generator_example(model.dimension), [contract.IMAGE, contract.TEXT_EMBEDDING],
        contract.SALIENCY, GENERATOR_DIMENSIONS,
    ).SerializeToString()  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / contract.GENERATOR_FILE
        file.write_bytes(content)
        return content, count_macs(file)


def _run(name: str, graph: bytes, size: int, threads: int) -> Callable[[], object]:
    session = GraphSession(graph, Execution("cpu", threads), name=name)
    given: dict[str, npt.NDArray[Any]] = {
        contract.IMAGE: random_photo(size)[None],
        contract.TEXT_EMBEDDING: random_texts(1, 512)[None],
    }
    return lambda: session.run(contract.SALIENCY, given)


def main(
    checkpoints: Annotated[
        list[str], typer.Argument(metavar="[NAME=]CHECKPOINT[@SIZE[@EYE_SCALE]]...", help="One row each.")
    ],
    data: Annotated[Path, typer.Option(help="Folder that holds sjtu_tis and phrases.")],
    text_encoder: Annotated[Path | None, typer.Option(help="Default: the released one.")] = None,
    neck: NeckOption = None,
    threads: ThreadsOption = 1,
    runs: RunsOption = 200,
) -> None:
    """What accuracy costs: generators scored on validation photos and timed in turn, as a Markdown table."""
    try:
        candidates = [Candidate.parse(spec) for spec in checkpoints]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    rows = measure_trade(
        candidates, data, text_encoder, neck=neck, threads=threads, runs=runs,
        progress=lambda text: typer.echo(text, err=True),
    )  # fmt: skip
    typer.echo(to_markdown(rows))
