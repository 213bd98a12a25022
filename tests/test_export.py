"""Exported graphs against PyTorch; and an export that cannot go on leaves nothing half-written."""

from __future__ import annotations

import errno
import itertools
import json
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

from conftest import random_generator  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from salgan_edge.export import convert, parity, write  # noqa: E402
from salgan_edge.export.write import export_bundle  # noqa: E402
from salgan_edge.train import released  # noqa: E402
from salgan_edge.train.checkpoint import Description, load_generator, save_generator  # noqa: E402
from salgan_edge.train.networks.paper import PaperGenerator  # noqa: E402
from salgan_edge.train.networks.text_encoder import (  # noqa: E402
    compact_text_encoder,
    round_rows_to_bytes,
    save_text_encoder,
)

from salgan_edge import SaliencyPredictor, contract, packing, samples  # noqa: E402
from salgan_edge.bundle import Bundle, default_bundle  # noqa: E402
from salgan_edge.devices import Execution  # noqa: E402
from salgan_edge.errors import CheckpointError, ExportError, OutputError, ParityError  # noqa: E402
from salgan_edge.session import GraphSession  # noqa: E402
from salgan_edge.tokenizer import ClipTokenizer  # noqa: E402
from salgan_edge.verify.verify import verify_bundle  # noqa: E402

GRAPHS = (contract.TEXT_ENCODER_FILE, contract.GENERATOR_FILE)


def names(folder):
    return [path.name for path in folder.iterdir()]


def load_text_model(folder):
    from transformers import CLIPTextModelWithProjection

    return CLIPTextModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()


def test_default_bundle_is_the_released_checkpoint():
    """The shipped graphs against the shipped weights in PyTorch, on a photo and a prompt."""
    predictor = SaliencyPredictor.load(device="cpu")
    generator, description = load_generator(released.GENERATORS["default"])
    manifest = predictor.bundle.manifest
    assert (manifest.preset, manifest.training, manifest.metrics) == (
        description.preset, description.training, description.metrics,
    )  # fmt: skip
    tokenizer = ClipTokenizer(released.TEXT_ENCODER / "tokenizer.json")
    ids = torch.from_numpy(tokenizer.batch(["a spoon", "a cup of coffee on a table"]))
    with torch.inference_mode():
        expected = load_text_model(released.TEXT_ENCODER)(input_ids=ids).text_embeds
        expected = torch.nn.functional.normalize(expected, dim=-1)
    text = predictor.embed(["a spoon", "a cup of coffee on a table"])
    assert np.abs(text - expected.numpy()).max() <= parity.EMBEDDING_TOLERANCE
    photo = samples.load("coffee")
    session = GraphSession(default_bundle() / "generator.onnx", Execution("cpu"))
    got = session.run(contract.SALIENCY, {contract.IMAGE: photo[None], contract.TEXT_EMBEDDING: text[None]})
    with torch.inference_mode():
        maps = generator(torch.from_numpy(photo)[None], torch.from_numpy(text)[None])
    assert np.abs(got - maps.numpy()).max() <= parity.MAP_TOLERANCE


@pytest.mark.parametrize(("batch", "prompts"), [(1, 1), (2, 3), (5, 4), (1, 8), (3, 1)])
@pytest.mark.parametrize("shape", [(30, 50), (64, 64), (201, 97)])
def test_generator_graph(tiny_bundle, batch, prompts, shape):
    random = np.random.default_rng(batch)
    image = random.integers(0, 256, (batch, *shape, 3), np.uint8)
    text = random.normal(size=(batch, prompts, 512)).astype(np.float32)
    text[0, 0] = 0
    with torch.inference_mode():
        expected = random_generator()(torch.from_numpy(image), torch.from_numpy(text)).numpy()
    session = GraphSession(tiny_bundle / "generator.onnx", Execution("cpu"))
    got = session.run(contract.SALIENCY, {contract.IMAGE: image, contract.TEXT_EMBEDDING: text})
    assert got.shape == (batch, prompts, 8, 8)
    assert got.std() > 0.01
    assert np.abs(got - expected).max() < parity.MAP_TOLERANCE


@pytest.mark.parametrize("count", [1, 2, 7])
def test_text_encoder_graph(tiny_bundle, tiny_text_encoder, count):
    texts = ["a dog", "word " * 100, "x", "the white lamps on the wall", "🦒", "a", "two dogs"][:count]
    ids = ClipTokenizer(tiny_bundle / "tokenizer.json").batch(texts)
    with torch.inference_mode():
        expected = load_text_model(tiny_text_encoder)(input_ids=torch.from_numpy(ids)).text_embeds.numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    got = GraphSession(tiny_bundle / "text_encoder.onnx", Execution("cpu")).run(
        contract.TEXT_EMBEDDING, {contract.INPUT_IDS: ids}
    )
    assert np.abs(got - expected).max() < parity.EMBEDDING_TOLERANCE


def test_graphs_keep_the_contract(tiny_bundle):
    for folder in (tiny_bundle, default_bundle()):
        manifest = Bundle.open(folder).manifest
        for name in ("text_encoder.onnx", "generator.onnx"):
            model = onnx.load(folder / name)
            assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
            onnx.checker.check_model(model, full_check=True)
            properties = {p.key: p.value for p in model.metadata_props}
            assert properties[contract.META_BUNDLE_ID] == manifest.bundle_id
            assert properties[contract.META_CONTRACT] == "1"
            # No stack trace, hence no path of the exporting machine, came along.
            assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        generator = GraphSession(folder / "generator.onnx", Execution("cpu"))
        assert generator.inputs["image"] == ("tensor(uint8)", ("batch", "height", "width", 3))
        assert generator.inputs["text_embedding"] == ("tensor(float)", ("batch", "prompts", 512))
        text_encoder = GraphSession(folder / "text_encoder.onnx", Execution("cpu"))
        assert text_encoder.inputs["input_ids"] == ("tensor(int64)", ("prompts", 77))
        assert text_encoder.outputs["text_embedding"][1][-1] == 512


def small_graph(operator, weight, inputs):
    """One operator that reads `weight`, as a model."""
    kinds = {"Gather": 7, "MatMul": 1}
    names = ["w", "x"] if operator == "Gather" else ["x", "w"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, names, ["o"], name="n")], "g",
        [onnx.helper.make_tensor_value_info("x", kinds[operator], inputs)],
        [onnx.helper.make_tensor_value_info("o", 1, None)],
        [onnx.numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


def stored(model):
    return {
        t.name: (onnx.TensorProto.DataType.Name(t.data_type), tuple(t.dims)) for t in model.graph.initializer
    }


@pytest.mark.parametrize(
    ("operator", "kind", "expected"),
    [
        ("Gather", "bytes", {"w": ("INT8", (3000, 16)), "w_factors": ("FLOAT16", (3000, 1))}),
        ("Gather", "halves", {"w": ("FLOAT16", (3000, 16))}),
        ("Gather", "floats", {"w": ("FLOAT", (3000, 16))}),
        ("MatMul", "bytes", {"w_half": ("FLOAT16", (3000, 16))}),
        ("MatMul", "halves", {"w_half": ("FLOAT16", (3000, 16))}),
        ("MatMul", "floats", {"w": ("FLOAT", (3000, 16))}),
    ],
)
def test_weights_are_stored_exactly(operator, kind, expected, tmp_path):
    """In as few bits as hold the values; the results are the same to the last bit."""
    random = np.random.default_rng(0)
    weight = torch.from_numpy(random.normal(size=(3000, 16)).astype(np.float32) * 0.1)
    weight[7] = 0
    if kind == "bytes":
        round_rows_to_bytes(weight)
    weight = (weight if kind == "floats" else weight.half().float()).numpy()
    if operator == "Gather":
        inputs = random.integers(0, 3000, (2, 5))
        inputs[0, 0] = 7
    else:
        inputs = random.normal(size=(2, 3000)).astype(np.float32)
    model = small_graph(operator, weight, inputs.shape)
    onnx.save(model, tmp_path / "before.onnx")
    convert.store_exactly(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "after.onnx")
    assert stored(model) == expected
    before, after = (
        GraphSession(tmp_path / f"{name}.onnx", Execution("cpu")).run("o", {"x": inputs})
        for name in ("before", "after")
    )
    assert np.array_equal(before, after)


def test_token_table_takes_a_byte_per_weight(tiny_bundle):
    vocabulary, width = 49408, 8
    model = onnx.load(tiny_bundle / "text_encoder.onnx")
    assert ("INT8", (vocabulary, width)) in stored(model).values()
    # Beside the table and its factors there are two layers of 8 channels, the output and the graph.
    assert (tiny_bundle / "text_encoder.onnx").stat().st_size < vocabulary * (width + 2) + 150_000


def test_manifest_reports_parity(tiny_bundle):
    cases = Bundle.open(tiny_bundle).manifest.parity
    assert len(cases) == 22
    assert all(case["difference"] <= case["tolerance"] for case in cases.values())


def test_predictor_runs_the_exported_bundle(tiny_bundle):
    result = SaliencyPredictor.load(tiny_bundle).predict(samples.path("coffee"), ["a spoon", None])
    assert not np.array_equal(result[0].map, result[1].map)


def test_same_checkpoint_same_bundle(tiny_bundle, tiny_checkpoint, tiny_text_encoder, tmp_path):
    shutil.copytree(tiny_bundle, tmp_path / "again")
    again = export_bundle(tmp_path / "again", tiny_checkpoint, str(tiny_text_encoder), name="renamed")
    assert again.manifest.bundle_id == Bundle.open(tiny_bundle).manifest.bundle_id
    # The older bundle was replaced.
    assert Bundle.open(tmp_path / "again").manifest.name == "renamed"
    assert names(tmp_path) == ["again"]


# Failures: a clear error, and nothing is left behind


@pytest.fixture
def exported(tiny_bundle, monkeypatch):
    """The exporter gives back the graphs of `tiny_bundle`: half a minute less per test."""

    def known(_module, _example, inputs, *_rest):
        return onnx.load(
            tiny_bundle / ("generator.onnx" if contract.IMAGE in inputs else "text_encoder.onnx")
        )

    monkeypatch.setattr(write, "convert", known)
    return known


def test_parity_miss_leaves_no_bundle(exported, tiny_checkpoint, tiny_text_encoder, tmp_path, monkeypatch):
    """The generator's graph is spoiled after the export, as a wrong operator would."""

    def spoiled(*arguments):
        model = exported(*arguments)
        for tensor in model.graph.initializer:
            if tensor.name.endswith("head.depthwise.weight"):
                values = 1.1 * onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return model

    monkeypatch.setattr(write, "convert", spoiled)
    with pytest.raises(ParityError, match=r"disagree in \d+ of 18 cases: generator, 1 photos.*at most 1e-04"):
        export_bundle(tmp_path / "bundle", tiny_checkpoint, str(tiny_text_encoder))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("exported")
def test_failed_export_keeps_the_older_bundle(
    tiny_bundle, tiny_checkpoint, tiny_text_encoder, tmp_path, monkeypatch
):
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    monkeypatch.setattr(parity, "MAP_TOLERANCE", -1.0)
    with pytest.raises(ParityError):
        export_bundle(tmp_path / "bundle", tiny_checkpoint, str(tiny_text_encoder))
    assert Bundle.open(tmp_path / "bundle").manifest == Bundle.open(tiny_bundle).manifest
    assert names(tmp_path) == ["bundle"]


def test_fixed_dimension_is_an_error():
    class Fixed(torch.nn.Module):
        def forward(self, x):
            return x + torch.zeros(2, 3)

    with pytest.raises(ExportError, match="axis 0 of x was fixed by the exporter"):
        convert.convert(Fixed(), (torch.zeros(2, 3),), ["x"], "y", ({0: torch.export.Dim("batch")},))


def wide(folder, _tiny_text_encoder):
    save_text_encoder(compact_text_encoder(8, 1, 2, dimension=768), folder)


def no_clip(folder, _tiny_text_encoder):
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')


def no_tokenizer(folder, tiny_text_encoder):
    shutil.copytree(tiny_text_encoder, folder)
    (folder / "tokenizer.json").unlink()


def nowhere(_folder, _tiny_text_encoder):
    pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (wide, "length 768, the generator reads 512"),
        (no_clip, "is a bert model: a CLIP text model"),
        (no_tokenizer, "tokenizer"),
        (nowhere, r"cannot load the text encoder .*Offline, pass the path of a local folder"),
    ],
)
def test_text_encoder_that_cannot_be_used(
    make, message, tiny_checkpoint, tiny_text_encoder, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    make(tmp_path / "encoder", tiny_text_encoder)
    before = names(tmp_path)
    with pytest.raises(ExportError, match=message):
        export_bundle(tmp_path / "bundle", tiny_checkpoint, str(tmp_path / "encoder"))
    assert names(tmp_path) == before


def test_tokenizer_from_vocabulary_files(tmp_path, tiny_text_encoder):
    """Older checkpoints have vocab.json and merges.txt in place of tokenizer.json."""
    from salgan_edge.train.networks.text_encoder import write_tokenizer

    model = json.loads((tiny_text_encoder / "tokenizer.json").read_text())["model"]
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in model["merges"])
    )
    shutil.copy(tiny_text_encoder / "config.json", folder)
    write_tokenizer(str(folder), tmp_path / "tokenizer.json", load_text_model(tiny_text_encoder))
    old, new = ClipTokenizer(tmp_path / "tokenizer.json"), ClipTokenizer(tiny_text_encoder / "tokenizer.json")
    for text in ("a photo of a cat", "naïve 42 dogs'"):
        assert old.encode(text) == new.encode(text)


def test_checkpoint_at_another_size(tiny_checkpoint):
    small, _ = load_generator(tiny_checkpoint)
    large, description = load_generator(tiny_checkpoint, size=128)
    assert (small.grid, large.grid, description.arguments["size"]) == (8, 16, 128)
    assert all(torch.equal(tensor, large.state_dict()[name]) for name, tensor in small.state_dict().items())
    with pytest.raises(CheckpointError, match="size 100 does not fit preset edge: a multiple of 32"):
        load_generator(tiny_checkpoint, size=100)


def test_output_that_is_something_else(tmp_path, tiny_checkpoint):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("x")
    with pytest.raises(OutputError, match=r"holds other files \(a\.jpg\)"):
        export_bundle(tmp_path / "photos", tiny_checkpoint)
    with pytest.raises(OutputError, match="is a file"):
        export_bundle(tmp_path / "photos" / "a.jpg", tiny_checkpoint)
    with pytest.raises(OutputError, match="cannot write"):
        export_bundle(tmp_path / "photos" / "a.jpg" / "bundle", tiny_checkpoint)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.jpg"]


@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize(
    ("options", "name"),
    [
        ([], "bundle"),
        (["--pack"], "bundle.salgan"),
        (["--pack", "-o", "bundle.salgan"], "bundle.salgan"),
        (["-o", "bundle.salgan"], "bundle.salgan"),
    ],
)
def test_command(options, name, tiny_bundle, tiny_checkpoint, tiny_text_encoder, tmp_path, run):
    """A folder, or one file, whose report tells the command without folders of this machine."""
    code, told, _ = run(
        "export", "--checkpoint", tiny_checkpoint, "--text-encoder", tiny_text_encoder, *options
    )
    assert code == 0
    assert names(tmp_path) == [name]
    bundle = Bundle.open(tmp_path / name)
    assert told.startswith(f"{name}: bundle {bundle.manifest.bundle_id}")
    assert set(bundle.manifest.files) == set(Bundle.open(tiny_bundle).manifest.files)
    command = ["salgan-edge export --checkpoint generator.safetensors --text-encoder", tiny_text_encoder.name]
    assert json.loads(bundle.read("report.json"))["command"] == " ".join([*command, *options])


def test_one_file_that_is_something_else(tiny_checkpoint, tmp_path):
    (tmp_path / "x.salgan").write_text("a letter")
    with pytest.raises(OutputError, match="is no bundle that may be replaced"):
        export_bundle(tmp_path / "x.salgan", tiny_checkpoint)
    assert (tmp_path / "x.salgan").read_text() == "a letter"


def test_export_leaves_a_receipt(tiny_bundle):
    """What `verify` finds of a real export; details are in test_verify.py and test_report.py."""
    report = verify_bundle(tiny_bundle, Execution("cpu", 1))
    assert {check.status for check in report.checks} == {"ok"}
    receipt = json.loads((tiny_bundle / "report.json").read_text())
    manifest = Bundle.open(tiny_bundle).manifest
    assert {
        c["name"]: {"difference": c["difference"], "tolerance": c["tolerance"]} for c in receipt["parity"]
    } == manifest.parity
    assert receipt["command"] is None
    assert receipt["passed"] is True


# Failures on the way: one clear line, the older bundle or none, nothing half-written


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
def test_signal(sent, quick, tmp_path, monkeypatch, run):
    """Ctrl-C and `kill` end the command with exit code 130 or 143 and no traceback, and the folder is clean."""
    original = write.convert

    def convert(*arguments):
        os.kill(os.getpid(), sent)
        return original(*arguments)

    monkeypatch.setattr(write, "convert", convert)
    handler = signal.getsignal(signal.SIGTERM)
    code, _, errors = run("export", "--checkpoint", quick)
    assert code == 128 + sent
    assert "Traceback" not in errors
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


def unknown_preset(path, _tiny_checkpoint):
    save_generator(torch.nn.Linear(2, 2), Description("other"), path)


def nothing(_path, _tiny_checkpoint):
    pass


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
        (unknown_preset, "a.safetensors", "'other' is unknown: edge or paper was expected"),
        (nothing, "a.safetensors", "does not exist: give a generator checkpoint"),
        (other_preset, "a.safetensors", "does not fit preset edge"),
        (other_version, "a.safetensors", "colour"),
        (training_state, "state.pt", "does not fit the paper's generator"),
        (table_of_numbers, "a.pt", "does not fit the paper's generator"),
        (empty, "a.pt", "cannot be read as a table of weights"),
        (image, "a.pt", "cannot be read as a table of weights"),
        (folder, "run", "is a folder: give the checkpoint in it"),
    ],
)
def test_checkpoint_that_cannot_be_used(make, file, message, tmp_path, tiny_checkpoint, run):
    path = tmp_path / file
    make(path, tiny_checkpoint)
    before = names(tmp_path)
    code, _, errors = run("export", "--checkpoint", path, "--output", tmp_path / "bundle")
    assert code == 1
    lines = errors.splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == 1
    assert message in lines[-1]
    assert len(lines[-1]) < 600
    assert names(tmp_path) == before


# Opset


@pytest.mark.parametrize("opset", [0, 17, 22])
def test_opset_out_of_range(opset, tmp_path, run):
    with pytest.raises(ExportError, match=f"opset {opset} is out of range: 18 to 21 was expected"):
        export_bundle(tmp_path / "bundle", opset=opset)
    code, _, errors = run("export", "--opset", opset)
    assert (code, "--opset" in errors, names(tmp_path)) == (2, True, [])


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--triton-kind", "cpu"], 2, "--triton-kind goes with --triton"),
        (["--gaze", "."], 2, "go with a --precision other than fp32"),
        (["--size", "100000"], 2, "--size"),
        (["--precision", "int8", "--calibration", "none"], 1, "none is no folder: give an existing one with --calibration"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused_at_once(options, code, message, run, tmp_path):
    found, _, errors = run("export", *options, "-o", tmp_path / "b")
    assert found == code
    assert message in errors
    assert not (tmp_path / "b").exists()


@pytest.mark.slow
def test_command_without_options(tmp_path, run):
    """`salgan-edge export` alone makes the embedded bundle again."""
    code, _, _ = run("export")
    assert code == 0
    got, shipped = Bundle.open(tmp_path / "bundle"), Bundle.open(default_bundle())
    assert got.manifest.training == shipped.manifest.training
    assert got.manifest.created_with != shipped.manifest.created_with or (
        got.manifest.text_id == shipped.manifest.text_id
    )
    for file in GRAPHS:
        made, before = (onnx.load(bundle.path(file)).graph for bundle in (got, shipped))
        assert [node.op_type for node in made.node] == [node.op_type for node in before.node]
        weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in before.initializer}
        for tensor in made.initializer:
            # The last bit of what was folded hangs on what folds it.
            assert onnx.numpy_helper.to_array(tensor) == pytest.approx(weights[tensor.name], abs=1e-7)
