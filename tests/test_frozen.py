"""What users see, kept: text, JSON, files and exit codes of every command, as they were when last looked at.

Each case runs one command in an empty folder with a few inputs and compares what comes of it with ``tests/frozen/CASE.txt``. Words have to be the
same, numbers about the same; times, versions, hashes and folders are masked. After a wanted change::

    SALGAN_EDGE_FREEZE=1 pytest tests/test_frozen.py

writes the files anew, and ``git diff tests/frozen`` shows what users will notice.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from salgan_edge import samples
from salgan_edge.images import read_image, write_image

KEPT = Path(__file__).parent / "frozen"
FREEZE = os.environ.get("SALGAN_EDGE_FREEZE") == "1"

# A case: its command, words apart by blanks; {tiny} is the bundle. What stands in the folder is made by `place`.
CASES = {
    "predict-text": "predict photo.jpg 'a red ball' -b {tiny}",
    "predict-free": "predict photo.jpg -b {tiny}",
    "predict-two-texts": "predict photo.jpg -t 'a dog' -t 'a red ball' -b {tiny} --output out",
    "predict-json": "predict photo.jpg 'a red ball' -b {tiny} --json",
    "predict-json-two-texts": "predict photo.jpg -t 'a dog' -t 'a red ball' -b {tiny} --json --map",
    "predict-folder": "predict photos 'a lamp' -b {tiny} -o out --map --json",
    "predict-pattern": "predict 'photos/*.png' 'a lamp' -b {tiny} -o out --map --map-format npy",
    "predict-broken-photo": "predict broken 'a lamp' -b {tiny} -o out",
    "predict-no-photo": "predict nothing.jpg 'a lamp' -b {tiny}",
    "predict-no-text-file": "predict photo.jpg 'a lamp' -b nowhere",
    "predict-wrong-option": "predict photo.jpg --colour",
    "predict-video": "predict clip.mp4 'a red ball' -b {tiny} -o out --json",
    "predict-prompts": "predict photo.jpg --prompt-pack prompts.npz -b {tiny} --json",
    "webcam-json": "webcam 'a red ball' -s clip.mp4 --headless --json -b {tiny} --every 2",
    "webcam-no-source": "webcam 'a red ball' -s nowhere.mp4 --headless -b {tiny}",
    "bake": "bake 'a dog' 'a red ball' -o mine.npz -b {tiny}",
    "bake-json": "bake 'a dog' -o mine.npz -b {tiny} --json",
    "inspect": "inspect {tiny}",
    "inspect-json": "inspect {tiny} --json",
    "inspect-nothing": "inspect nowhere",
    "verify": "verify {tiny}",
    "verify-json": "verify {tiny} --json",
    "verify-damaged": "verify damaged",
    "bundle-pack": "bundle pack {tiny} mine.salgan",
    "bundle-pack-json": "bundle pack -b {tiny} mine.salgan --json",
    "bundle-pack-no-encoder": "bundle pack --without-text-encoder {tiny} mine.salgan",
    "bundle-unpack": "bundle unpack packed.salgan mine",
    "bundle-unpack-in-the-way": "bundle unpack packed.salgan photos",
    "evaluate": "evaluate --bundle {tiny} --gaze gaze --split test",
    "evaluate-json": "evaluate --bundle {tiny} --gaze gaze --split test --json",
    "evaluate-prompts": "evaluate --bundle {tiny} --prompts labels.csv --split all",
    "evaluate-prompts-json": "evaluate --bundle {tiny} --prompts labels.csv --split all --json --csv cases.csv",
    "evaluate-nothing": "evaluate --bundle {tiny}",
    "data-show": "data show gaze",
    "data-show-nothing": "data show nowhere",
    "data-prepare-csv": "data prepare labels.csv --output packed",
    "data-prepare-json": "data prepare labels.csv --output packed --json",
    "older-spelling": "evaluate --bundle {tiny} --data gaze --split test --baseline none --limit 2",
    "train-nothing": "train --data nowhere",
    "train-wrong-setting": "train --data gaze --set epoch=3",
    "distill-nothing": "distill --data nowhere --output run",
    "export-no-checkpoint": "export --checkpoint nowhere.safetensors -o mine",
    "export-damaged": "export --checkpoint photo.jpg -o mine",
    "benchmark-nothing": "benchmark nowhere",
    "no-command": "",
    "wrong-command": "predikt photo.jpg",
    **{
        f"help-{name.replace(' ', '-')}": f"{name} --help"
        for name in (
            "predict", "webcam", "bake", "evaluate", "export", "inspect", "verify", "doctor", "benchmark", "train",
            "distill", "bundle pack", "bundle unpack", "data prepare", "data show",
        )
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def inputs(tmp_path_factory, tiny_bundle, gaze_data):
    """A folder of inputs, made once."""
    folder = tmp_path_factory.mktemp("frozen")
    rows, columns = np.mgrid[0:60, 0:80]
    photo = np.stack([rows * 4, columns * 3, rows + columns], axis=-1).astype(np.uint8)
    write_image(folder / "photo.jpg", photo)
    (folder / "photos").mkdir()
    for number, name in enumerate(("b.png", "a.png", "c.jpg")):
        write_image(folder / "photos" / name, np.roll(photo, 20 * number, axis=1))
    (folder / "photos" / "notes.txt").write_text("no photo\n")
    (folder / "broken").mkdir()
    (folder / "broken" / "bad.jpg").write_bytes(b"no photo at all")
    write_image(folder / "broken" / "good.png", photo)
    _video(folder / "clip.mp4", photo)
    from salgan_edge.bundle import Bundle
    from salgan_edge.packing import pack
    from salgan_edge.predictor import SaliencyPredictor

    SaliencyPredictor.load(tiny_bundle, device="cpu").bake(["a dog", "a red ball"]).save(
        folder / "prompts.npz"
    )
    pack(Bundle.open(tiny_bundle), folder / "packed.salgan")
    shutil.copytree(tiny_bundle, folder / "damaged")
    graph = folder / "damaged" / "generator.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    shutil.copytree(gaze_data / "sjtu_tis", folder / "gaze")
    (folder / "own" / "images").mkdir(parents=True)
    for name in samples.NAMES:
        write_image(folder / "own" / "images" / f"{name}.png", samples.load(name)[::8, ::8])
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["set", "image", "kind", "texts", "boxes"])
        writer.writerow(["own", "coffee", "noun", "a cup / the cup of coffee", "0.2,0.1,0.8,0.9"])
        writer.writerow(["own", "coffee", "attr", "a silver spoon", "0.5,0.5,0.7,0.8"])
        writer.writerow(["own", "astronaut", "noun", "a flag", "0,0,0.3,1"])
    return folder


def _video(path: Path, photo) -> None:
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (80, 60))
    for number in range(4):
        writer.write(np.roll(photo, 10 * number, axis=1)[..., ::-1].copy())
    writer.release()


@pytest.mark.parametrize("case", CASES)
def test_what_users_see(case, run, inputs, tiny_bundle, tmp_path, monkeypatch):
    # The width that help is wrapped at.
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERMINAL_WIDTH", "100")
    before = _copied(inputs, tmp_path)
    words = [word.replace("{tiny}", str(tiny_bundle)) for word in shlex.split(CASES[case])]
    code, out, err = run(*words)
    folders = {str(tiny_bundle): "TINY", str(tmp_path): "HERE", str(inputs): "INPUTS"}
    told = [
        f"$ salgan-edge {CASES[case]}".replace("{tiny}", "TINY").rstrip(),
        f"exit code {code}",
        "--- standard output",
        _masked(out, folders),
        "--- standard error",
        _masked(err, folders),
        "--- files",
        *_made(tmp_path, before),
    ]
    text = "\n".join(line.rstrip() for line in "\n".join(told).splitlines()) + "\n"
    kept = KEPT / f"{case}.txt"
    if FREEZE:
        kept.write_text(text, encoding="utf-8")
        return
    assert kept.is_file(), f"{kept} is not there: SALGAN_EDGE_FREEZE=1 pytest {__file__}"
    _assert_alike(text, kept.read_text(encoding="utf-8"))


def _copied(inputs: Path, folder: Path) -> set[str]:
    """Bring the inputs to a folder; what is there then."""
    shutil.copytree(inputs, folder, dirs_exist_ok=True)
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _made(folder: Path, before: set[str]) -> list[str]:
    """What was made beside the inputs, each with what can be said of it."""
    new = sorted(path for path in folder.rglob("*") if str(path.relative_to(folder)) not in before)
    return [f"{path.relative_to(folder).as_posix()}{_what(path)}" for path in new]


def _what(path: Path) -> str:
    """A few words about a file."""
    if path.is_dir():
        return "/"
    told = {
        ".png": lambda: read_image(path).shape,
        ".jpg": lambda: read_image(path).shape,
        ".npy": lambda: f"{np.load(path).dtype} {np.load(path).shape}",
        ".npz": lambda: sorted(np.load(path).files),
        ".csv": lambda: path.read_text().splitlines()[0],
        ".json": lambda: sorted(json.loads(path.read_text())),
    }.get(path.suffix)
    return f" {told()}" if told else ""


def _masked(text: str, folders: dict[str, str]) -> str:
    """Without what differs from run to run or from machine to machine."""
    # Longer paths first: one may hold the other.
    for path, name in sorted(folders.items(), key=lambda item: -len(item[0])):
        text = text.replace(path, name)
    text = re.sub(r"(?<!\.)\b[0-9a-f]{16,64}\b", "HASH", text)
    text = re.sub(r"\b\d+\.\d+\.\d+(\.\w+|\+\w+)*\b", "VERSION", text)
    text = re.sub(r"\b\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)", "TIME", text)
    text = re.sub(r'"(milliseconds|age_ms|ms|seconds)": (\{[^{}]*\}|[\d.]+)', r'"\1": "MASKED"', text)
    return re.sub(r"\b[\d.]+ (ms|s|fps|seconds|MB|kB|bytes)\b", r"# \1", text)


def _assert_alike(new: str, old: str) -> None:
    """Words the same, numbers within a hundredth: peaks may move by a pixel on another machine."""
    number = re.compile(r"(?<![\w.])-?\d+\.?\d*(?:e-?\d+)?(?![\w.])")
    assert number.sub("#", new) == number.sub("#", old)
    pairs = zip(number.findall(new), number.findall(old), strict=True)
    wrong = [
        (a, b)
        for a, b in pairs
        if abs(float(a) - float(b)) > 0.02 * abs(float(b)) + (1.01 if float(b) >= 3 else 0.03)
    ]
    assert not wrong, f"numbers that were others before: {wrong}"
