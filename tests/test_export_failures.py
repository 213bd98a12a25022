"""An export that cannot go on: one clear line, the older bundle or none, nothing half-written."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from safetensors.torch import save_file  # noqa: E402
from salgan_edge.export import write  # noqa: E402
from salgan_edge.export.write import export_bundle  # noqa: E402
from salgan_edge.train.checkpoint import Description, load_generator, save_generator  # noqa: E402
from salgan_edge.train.networks.paper import PaperGenerator  # noqa: E402

from salgan_edge import cli, contract, packing  # noqa: E402
from salgan_edge.bundle import Bundle  # noqa: E402
from salgan_edge.errors import CheckpointError, ExportError, OutputError  # noqa: E402


@pytest.fixture
def quick(tiny_bundle, tiny_checkpoint, monkeypatch):
    """`export_bundle(output, checkpoint)` that writes every file and traces, runs and compares nothing."""
    loaded = load_generator(tiny_checkpoint)
    files = {name: (tiny_bundle / name).read_bytes() for name in ("tokenizer.json", "golden.npz")}
    graphs = {
        name: onnx.load(tiny_bundle / name) for name in (contract.GENERATOR_FILE, contract.TEXT_ENCODER_FILE)
    }

    def convert(_module, _example, inputs, *_rest):
        model = onnx.ModelProto()
        model.CopyFrom(
            graphs[contract.GENERATOR_FILE if contract.IMAGE in inputs else contract.TEXT_ENCODER_FILE]
        )
        return model

    class Text(torch.nn.Module):
        class Config:
            vocab_size = 49408

        config = Config()

    def write_receipt(folder, manifest, *_rest, **_options):
        (folder / contract.GOLDEN_FILE).write_bytes(files["golden.npz"])
        (folder / contract.REPORT_JSON_FILE).write_text("{}")
        (folder / contract.REPORT_FILE).write_text("report")
        return manifest

    class Encoder(torch.nn.Module):
        def forward(self, ids):
            return torch.zeros(len(ids), 512)

    class Tokenizer:
        def __init__(self, path):
            assert path.is_file()

        def batch(self, texts):
            return np.zeros((len(texts), 77), np.int64)

    monkeypatch.setattr(write, "ClipTokenizer", Tokenizer)
    case = write.parity.Case("all", 0.0, 1.0)
    monkeypatch.setattr(write, "load_generator", lambda *_: loaded)
    monkeypatch.setattr(write, "load_text_encoder", lambda *_: Text())
    monkeypatch.setattr(
        write, "write_tokenizer", lambda _source, path, _model: path.write_bytes(files["tokenizer.json"])
    )
    monkeypatch.setattr(write, "TextEncoderGraph", lambda _model: Encoder())
    monkeypatch.setattr(write, "convert", convert)
    monkeypatch.setattr(write, "write_receipt", write_receipt)
    monkeypatch.setattr(write.parity, "check_text_encoder", lambda *_: [case])
    monkeypatch.setattr(write.parity, "check_generator", lambda *_: [case])
    return tiny_checkpoint


def state(folder):
    """Every file below a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder):
    return [path.name for path in folder.iterdir()]


def older_bundle(parent, tiny_bundle):
    shutil.copytree(tiny_bundle, parent / "bundle")
    return Bundle.open(parent / "bundle").manifest.name


def test_quick_export_is_an_export(quick, tiny_bundle, tmp_path):
    """Without a fault the stand-ins make a bundle that opens, in place of the older one."""
    older_bundle(tmp_path, tiny_bundle)
    assert export_bundle(tmp_path / "bundle", quick, name="new").manifest.name == "new"
    assert names(tmp_path) == ["bundle"]


# A full disk

WRITERS = ("write_bytes", "write_text", "rename", "mkdir", "chmod", "mkdtemp")


def full_from(call, writer, monkeypatch):
    """The disk is full at one call of one way to write; returns the count of such calls."""
    calls = itertools.count()
    owner = tempfile if writer == "mkdtemp" else Path
    original = getattr(owner, writer)

    def limited(*arguments, **options):
        if next(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*arguments, **options)

    monkeypatch.setattr(owner, writer, limited)
    return calls


@pytest.mark.parametrize("older", [False, True], ids=["fresh", "over an older bundle"])
@pytest.mark.parametrize("writer", WRITERS)
def test_full_disk_at_every_write(writer, older, quick, tiny_bundle, tmp_path, monkeypatch):
    if older:
        older_bundle(tmp_path, tiny_bundle)
    before = state(tmp_path)
    failed = 0
    for call in itertools.count():
        with monkeypatch.context() as patch:
            counted = full_from(call, writer, patch)
            error = None
            try:
                export_bundle(tmp_path / "bundle", quick, name="new")
            except OutputError as raised:
                error = str(raised)
        if error is None:
            # The export wrote less often than this.
            assert next(counted) <= call
            break
        assert error.startswith(f"cannot write {tmp_path / 'bundle'}: No space left on device")
        assert "\n" not in error
        failed += 1
        assert state(tmp_path) == before
        assert names(tmp_path) == (["bundle"] if older else [])
    assert failed >= (writer != "mkdir")  # the parent folder is there already
    assert Bundle.open(tmp_path / "bundle").manifest.name == "new"


def test_disk_that_is_really_full(quick, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here: needs root and mount")
    try:
        with pytest.raises(OutputError, match="No space left on device; nothing was left there"):
            export_bundle(disk / "bundle", quick)
        assert names(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# Ctrl-C


class Interrupt:
    """Raises KeyboardInterrupt at the n-th line that runs in the files that write a bundle."""

    files = (write.__file__, packing.__file__)

    def __init__(self, line):
        self.left = line
        self.where = None

    def __call__(self, frame, event, _argument):
        if frame.f_code.co_filename not in self.files:
            return None
        if event == "line":
            if self.left == 0 and self.where is None:
                self.where = (Path(frame.f_code.co_filename), frame.f_lineno)
                raise KeyboardInterrupt
            self.left -= 1
        return self

    @property
    def text(self):
        path, line = self.where
        return path.read_text().splitlines()[line - 1].strip()


# Between the making of a temporary folder and its `try`, and in the cleaning up itself, a Ctrl-C may leave
# a hidden folder; what is at the output is whole all the same.
LEAVES_FOLDER = ("try:", "shutil.rmtree(", "finally:", "if not output.exists():")


@pytest.mark.parametrize("older", [False, True], ids=["fresh", "over an older bundle"])
def test_interrupt_at_every_line(older, quick, tiny_bundle, tmp_path):
    name = older_bundle(tmp_path, tiny_bundle) if older else None
    output = tmp_path / "bundle"
    outcomes = set()
    for line in itertools.count():
        interrupt = Interrupt(line)
        before = sys.gettrace()
        sys.settrace(interrupt)
        try:
            export_bundle(output, quick, name="new")
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        if interrupt.where is None:
            break
        found = Bundle.open(output).manifest.name if output.exists() else None
        assert found in (name, "new"), interrupt.text
        outcomes.add(found)
        strays = [path for path in tmp_path.iterdir() if path != output]
        assert not strays or interrupt.text.startswith(LEAVES_FOLDER), interrupt.text
        for path in strays:
            shutil.rmtree(path)
        if found == "new":
            shutil.rmtree(output)
            if older:
                older_bundle(tmp_path, tiny_bundle)
    assert line > 40
    assert outcomes == {name, "new"}


@pytest.mark.parametrize("step", range(4))
def test_interrupt_at_every_report(step, quick, tiny_bundle, tmp_path):
    older_bundle(tmp_path, tiny_bundle)
    before, reports = state(tmp_path), itertools.count()

    def report(_line):
        if next(reports) == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_bundle(tmp_path / "bundle", quick, report=report)
    assert state(tmp_path) == before
    assert names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_signal(sent, quick, tmp_path, monkeypatch, capsys):
    """Ctrl-C and `kill` end the command with exit code 130 or 143 and no traceback, and the folder is clean."""
    original = write.convert

    def convert(*arguments):
        os.kill(os.getpid(), sent)
        return original(*arguments)

    monkeypatch.setattr(write, "convert", convert)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["salgan-edge", "export", "--checkpoint", str(quick)])
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 128 + sent
    assert "Traceback" not in capsys.readouterr().err
    assert names(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) == handler


# Checkpoints


def truncated(path, tiny_checkpoint):
    path.write_bytes(tiny_checkpoint.read_bytes()[:-100])


def empty(path, _tiny_checkpoint):
    path.write_bytes(b"")


def foreign(path, _tiny_checkpoint):
    save_file({"model.weight": torch.zeros(3)}, path)


def image(path, _tiny_checkpoint):
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))


def other_preset(path, _tiny_checkpoint):
    save_generator(PaperGenerator(64), Description("edge", {"size": 64}), path)


def other_version(path, tiny_checkpoint):
    model, description = load_generator(tiny_checkpoint)
    save_generator(model, Description("edge", {**description.arguments, "colour": 3}), path)


def training_state(path, tiny_checkpoint):
    model, _ = load_generator(tiny_checkpoint)
    torch.save({"generator": model.state_dict(), "epoch": 3, "optimizer": {"state": {0: 1}}}, path)


def table_of_numbers(path, _tiny_checkpoint):
    torch.save({1: torch.zeros(2)}, path)


def folder(path, _tiny_checkpoint):
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "file", "message"),
    [
        (truncated, "a.safetensors", "is damaged"),
        (empty, "a.safetensors", "is damaged"),
        (image, "a.safetensors", "is damaged"),
        (foreign, "a.safetensors", "is no generator checkpoint of salgan-edge: its description is missing"),
        (other_preset, "a.safetensors", "does not fit preset edge"),
        (other_version, "a.safetensors", "colour"),
        (training_state, "state.pt", "does not fit the paper's generator"),
        (table_of_numbers, "a.pt", "does not fit the paper's generator"),
        (empty, "a.pt", "cannot be read as a table of weights"),
        (image, "a.pt", "cannot be read as a table of weights"),
        (folder, "run", "is a folder: give the checkpoint in it"),
    ],
)
def test_checkpoint_that_cannot_be_used(make, file, message, tmp_path, tiny_checkpoint, monkeypatch, capsys):
    path = tmp_path / file
    make(path, tiny_checkpoint)
    output = tmp_path / "bundle"
    monkeypatch.setattr(
        sys, "argv", ["salgan-edge", "export", "--checkpoint", str(path), "--output", str(output)]
    )
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == 1
    assert message in lines[-1]
    assert len(lines[-1]) < 600
    assert [path.name for path in tmp_path.iterdir()] == [file]


def test_missing_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist: give a generator checkpoint"):
        export_bundle(tmp_path / "bundle", tmp_path / "no.safetensors")
    assert names(tmp_path) == []


# Opset


@pytest.mark.parametrize("opset", [0, 17, 22])
def test_opset_out_of_range(opset, tmp_path, monkeypatch, capsys):
    with pytest.raises(ExportError, match=f"opset {opset} is out of range: 18 to 21 was expected"):
        export_bundle(tmp_path / "bundle", opset=opset)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["salgan-edge", "export", "--opset", str(opset)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "--opset" in capsys.readouterr().err
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--triton-kind", "cpu"], 2, "--triton-kind goes with --triton"),
        (["--data", "."], 2, "go with a --precision other than fp32"),
        (["--size", "100000"], 2, "--size"),
        (["--precision", "int8", "--calibration", "none"], 1, "none is no folder: give an existing one with --calibration"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused_at_once(options, code, message, run, tmp_path):
    found, _, errors = run("export", *options, "-o", tmp_path / "b")
    assert found == code
    assert message in errors
    assert not (tmp_path / "b").exists()
