"""A bundle is what its manifest says, or it is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from salgan_edge import SaliencyPredictor
from salgan_edge.bundle import (
    BUNDLE_FILES,
    EMBEDDED,
    Bundle,
    Manifest,
    bundle_place,
    default_bundle,
    read_contents,
)
from salgan_edge.errors import BundleError, BundleFormatError, BundleIntegrityError


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(default_bundle(), tmp_path / "bundle")


def change_manifest(folder, **changes):
    file = folder / "bundle.json"
    raw = json.loads(file.read_text())
    raw.update(changes)
    file.write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))


@pytest.mark.parametrize(("name", "most"), [("default", 24e6), ("small", 13e6)])
def test_embedded_bundles_are_whole_and_small(name, most):
    bundle = Bundle.open(name)
    assert sum(record.bytes for record in bundle.manifest.files.values()) <= most
    assert bundle.manifest.embedding_dimension == 512
    assert bundle.manifest.metrics
    assert bundle.manifest.training["split"]


def test_manifest_survives_writing_and_reading():
    text = (default_bundle() / "bundle.json").read_text()
    assert Manifest.from_json(text).to_json() == text


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_file_that_is_not_what_the_manifest_says(copy, name):
    whole = (copy / name).read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    size = f"{len(whole) - 100} bytes, the manifest says {len(whole)}"
    for data, message in (
        (bytes(changed), f"{name} was changed"),
        (whole[:-100], size),
        (None, f"{name} is missing"),
    ):
        (copy / name).unlink(missing_ok=True)
        if data is not None:
            (copy / name).write_bytes(data)
        with pytest.raises(BundleIntegrityError, match=message):
            SaliencyPredictor.load(copy)


def test_open_raises_the_first_finding_and_verify_lists_all(copy):
    (copy / "generator.onnx").write_bytes(b"short")
    (copy / "tokenizer.json").unlink()
    found = read_contents(copy)
    wrong = {file.name: file.problem for file in found.files if file.problem}
    size = Manifest.from_json((copy / "bundle.json").read_text()).files["generator.onnx"].bytes
    assert wrong == {"generator.onnx": f"5 bytes, the manifest says {size}", "tokenizer.json": "missing"}
    # What lies there can be looked at all the same.
    assert found.read("generator.onnx") == b"short"
    with pytest.raises(BundleIntegrityError, match=r"generator\.onnx has 5 bytes, the manifest says"):
        Bundle.open(copy)


def test_more_files_in_a_folder_do_no_harm(copy):
    listed = json.loads((copy / "bundle.json").read_text())["files"]
    change_manifest(copy, files={name: listed[name] for name in BUNDLE_FILES})
    (copy / "notes.txt").touch()
    (copy / "report.md").write_text("of another bundle")
    assert not Bundle.open(copy).has("report.md")
    (state,) = [file for file in read_contents(copy).files if file.name == "report.md"]
    assert (state.problem, state.record) == ("bundle.json does not list it", None)


@pytest.mark.parametrize("what", ["format", "contract"])
def test_newer_version(copy, what):
    change_manifest(copy, **{f"{what}_version": 2})
    with pytest.raises(
        BundleFormatError, match=f"{what} version 2, this salgan-edge reads up to 1: pip install -U"
    ):
        SaliencyPredictor.load(copy)


def test_future_fields_of_the_same_version_are_ignored(copy):
    change_manifest(copy, something_new=1)
    assert Bundle.open(copy)


def test_foreign_manifests(copy):
    for content in (
        "[]",
        "no json",
        "{}",
        '{"format_version": 1, "contract_version": 1}',
        '{"format_version": "1"}',
    ):
        (copy / "bundle.json").write_text(content)
        with pytest.raises(BundleFormatError):
            Bundle.open(copy)
    (copy / "bundle.json").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(BundleFormatError):
        Bundle.open(copy)


def test_no_bundle(tmp_path):
    with pytest.raises(BundleFormatError, match=r"has no bundle\.json"):
        Bundle.open(tmp_path)
    with pytest.raises(BundleFormatError, match="does not exist: give a bundle folder"):
        Bundle.open(tmp_path / "nothing")


def test_graphs_of_two_bundles_refuse_each_other(copy):
    """Even when somebody fixes the hashes."""
    onnx = pytest.importorskip("onnx")
    from salgan_edge.files import sha256

    for name in ("generator.onnx", "text_encoder.onnx"):
        model = onnx.load(copy / name)
        onnx.helper.set_model_props(model, {"salgan_edge.bundle_id": "another"})
        (copy / name).write_bytes(model.SerializeToString())
        files = json.loads((copy / "bundle.json").read_text())["files"]
        files[name] = {"sha256": sha256(copy / name), "bytes": (copy / name).stat().st_size}
        change_manifest(copy, files=files)
        with pytest.raises(BundleFormatError, match=f"{name} belongs to bundle another"):
            SaliencyPredictor.load(copy).predict("samples/coffee.jpg", "a spoon")
        shutil.copy(default_bundle() / name, copy / name)
        shutil.copy(default_bundle() / "bundle.json", copy / "bundle.json")


def test_text_encoder_of_another_dimension(copy):
    change_manifest(copy, embedding_dimension=768)
    with pytest.raises(BundleError, match="length 512, the generator reads 768"):
        SaliencyPredictor.load(copy).embed(["a dog"])


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_bundles_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Bundle.open(name).place == bundle_place(name)
    assert bundle_place(name).parent == default_bundle().parent
    # A folder of photos that is called so is no bundle; a bundle is.
    (tmp_path / name).mkdir()
    assert bundle_place(Path(name)).is_absolute()
    (tmp_path / name / "bundle.json").touch()
    assert bundle_place(name) == Path(name)


def test_default_bundle_needs_no_name():
    assert bundle_place(None) == default_bundle() == bundle_place("default")
    assert bundle_place("elsewhere/small") == Path("elsewhere/small")
