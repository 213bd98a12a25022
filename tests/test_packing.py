"""One-file bundles: packed alike every time, loaded as they are, and refused when they are anything else."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from salgan_edge import SaliencyPredictor, packing, samples
from salgan_edge.bundle import Bundle, Manifest, default_bundle
from salgan_edge.devices import Execution
from salgan_edge.errors import BundleError, BundleFormatError, BundleIntegrityError, OutputError, PromptError
from salgan_edge.session import GraphSession

CONTENT = {
    "generator.onnx": b"generator" * 50,
    "text_encoder.onnx": b"text encoder" * 30,
    "tokenizer.json": b"{}",
    "golden.npz": b"golden",
    "report.md": b"# Report",
}


def manifest_of(files):
    records = {n: {"sha256": hashlib.sha256(d).hexdigest(), "bytes": len(d)} for n, d in files.items()}
    raw = json.loads((default_bundle() / "bundle.json").read_text())
    return json.dumps({**raw, "files": records, "something_new": [1]}).encode()


def make_folder(folder, files):
    folder.mkdir()
    for name, data in {"bundle.json": manifest_of(files), **files}.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def small(tmp_path):
    """A bundle of a few bytes: right in all but that nothing computes with it."""
    return make_folder(tmp_path / "small", CONTENT)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The embedded bundle as a file."""
    file = tmp_path_factory.mktemp("packed") / "default.salgan"
    packing.pack(Bundle.open(default_bundle()), file)
    return file


def raw_zip(entries, *, comment=b""):
    """A zip written by hand: (name, data, changed fields of the headers), as no tool would write it."""
    body, directory = b"", b""
    for text, data, changes in entries:
        name = text.encode()
        fields = {
            "flags": 0, "method": 0, "crc": zlib.crc32(data), "stored": len(data), "size": len(data),
            "system": 3, "mode": 0o100644, "extra": b"", **changes,
        }  # fmt: skip
        common = struct.pack(
            "<HHHHIII",
            fields["flags"],
            fields["method"],
            0,
            33,
            fields["crc"],
            fields["stored"],
            fields["size"],
        )
        offset = fields.get("offset", len(body))
        body += (
            b"PK\x03\x04" + struct.pack("<H", 20) + common + struct.pack("<HH", len(name), 0) + name + data
        )
        directory += (
            b"PK\x01\x02" + struct.pack("<BBH", 20, fields["system"], 20) + common
            + struct.pack("<HHHHHII", len(name), len(fields["extra"]), 0, 0, 0, fields["mode"] << 16, offset)
            + name + fields["extra"]
        )  # fmt: skip
    count = len(entries)
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), len(comment))
    return body + directory + b"PK\x05\x06" + end + comment


def entries_of(files, **changes):
    """The entries of a right archive; `changes` are header fields of ``generator.onnx``."""
    manifest = ("bundle.json", manifest_of(files), {})
    return [manifest, *((n, d, changes if n == "generator.onnx" else {}) for n, d in sorted(files.items()))]


# Packing and unpacking


def test_there_and_back(small, tmp_path):
    (small / "notes.txt").write_text("not listed")
    file = packing.pack(Bundle.open(small), tmp_path / "x.salgan")
    assert file.manifest == Bundle.open(small).manifest
    folder = packing.unpack(tmp_path / "x.salgan", tmp_path / "again")
    assert folder.place == tmp_path / "again"
    found = {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    # To the byte, with the manifest's unknown fields, and without what it does not list.
    assert found == {"bundle.json": (small / "bundle.json").read_bytes(), **CONTENT}
    assert {path.name for path in tmp_path.iterdir()} == {"small", "x.salgan", "again"}


def test_same_bundle_same_bytes(small, tmp_path):
    packing.pack(Bundle.open(small), tmp_path / "a.salgan")
    other = tmp_path / "other"
    other.mkdir()
    for name in sorted((path.name for path in small.iterdir()), reverse=True):
        (other / name).write_bytes((small / name).read_bytes())
        (other / name).chmod(0o600)
        os.utime(other / name, (10**9, 10**9))
    packing.pack(Bundle.open(other), tmp_path / "b.salgan")
    packing.pack(Bundle.open(tmp_path / "a.salgan"), tmp_path / "c.salgan")
    data = (tmp_path / "a.salgan").read_bytes()
    assert (tmp_path / "b.salgan").read_bytes() == data
    assert (tmp_path / "c.salgan").read_bytes() == data
    with zipfile.ZipFile(tmp_path / "a.salgan") as file:
        assert file.namelist() == ["bundle.json", *sorted(CONTENT)]
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert file.testzip() is None
    # And it is what the zip format says, written by hand.
    assert raw_zip(entries_of(CONTENT)) == data


def test_damaged_bundle_is_not_packed(small, tmp_path):
    opened = Bundle.open(small)
    (small / "report.md").write_bytes(b"# report")
    with pytest.raises(BundleIntegrityError, match=r"report\.md was changed"):
        Bundle.open(small)
    with pytest.raises(BundleIntegrityError, match=r"report\.md was changed"):
        packing.pack(opened, tmp_path / "x.salgan")
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_only_an_older_bundle_is_replaced(small, tmp_path):
    opened = Bundle.open(small)
    (tmp_path / "photo.jpg").write_bytes(b"photo")
    with pytest.raises(OutputError, match="is no bundle that may be replaced"):
        packing.pack(opened, tmp_path / "photo.jpg")
    with pytest.raises(OutputError, match=r"is a folder: give a file, such as small\.salgan"):
        packing.pack(opened, small)
    packing.pack(opened, tmp_path / "x.salgan")
    packing.pack(Bundle.open(tmp_path / "x.salgan"), tmp_path / "x.salgan", without_text_encoder=True)
    assert not Bundle.open(tmp_path / "x.salgan").has("tokenizer.json")

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"photo")
    with pytest.raises(OutputError, match=r"holds other files \(a\.jpg\)"):
        packing.unpack(tmp_path / "x.salgan", tmp_path / "photos")
    with pytest.raises(OutputError, match="is a file"):
        packing.unpack(tmp_path / "x.salgan", tmp_path / "photo.jpg")
    with pytest.raises(OutputError, match="cannot write"):
        packing.unpack(tmp_path / "x.salgan", tmp_path / "photo.jpg" / "folder")
    with pytest.raises(BundleFormatError, match="is a folder already"):
        packing.unpack(small, tmp_path / "new")
    packing.unpack(tmp_path / "x.salgan", small)
    # The older one is gone whole: its text encoder was not left beside the new manifest.
    assert {path.name for path in small.iterdir()} == {
        "bundle.json", "generator.onnx", "golden.npz", "report.md",
    }  # fmt: skip
    assert (tmp_path / "photo.jpg").read_bytes() == b"photo"
    assert {path.name for path in tmp_path.iterdir()} == {"small", "x.salgan", "photo.jpg", "photos"}


def test_failed_unpacking_keeps_the_older_bundle(small, tmp_path, monkeypatch):
    packing.pack(Bundle.open(small), tmp_path / "x.salgan")
    before = {path.name: path.read_bytes() for path in small.iterdir()}

    def full(_staging, _output):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packing, "put_in_place", full)
    with pytest.raises(OutputError, match="No space left on device; nothing was left there"):
        packing.unpack(tmp_path / "x.salgan", small)
    assert {path.name: path.read_bytes() for path in small.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"small", "x.salgan"}


def test_too_large_for_one_file(small, tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 400)
    with pytest.raises(BundleFormatError, match="more than 4 GiB"):
        packing.pack(Bundle.open(small), tmp_path / "x.salgan")
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


# Loading


def test_file_predicts_as_the_folder(packed, predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    loaded = SaliencyPredictor.load(str(packed), device="cpu")
    photo = samples.load("coffee")
    for mine, expected in zip(
        loaded.predict(photo, ["a spoon", None]), predictor.predict(photo, ["a spoon", None]), strict=True
    ):
        assert np.array_equal(mine.map, expected.map)
    assert loaded.bundle.manifest == predictor.bundle.manifest
    # Nothing was extracted: neither to the temporary folder nor beside the file.
    assert list(tmp_path.iterdir()) == []
    assert [path.name for path in packed.parent.iterdir()] == ["default.salgan"]


@pytest.mark.parametrize("file", [True, False])
def test_each_file_is_read_once(packed, monkeypatch, file):
    opened = []
    kind = zipfile.ZipFile if file else Path
    original = kind.open

    def spy(self, *arguments, **options):
        if file or self.parent == default_bundle():
            opened.append(arguments[0] if file else self.name)
        return original(self, *arguments, **options)

    monkeypatch.setattr(kind, "open", spy)
    loaded = SaliencyPredictor.load(packed if file else None, device="cpu")
    assert sorted(opened) == sorted(["bundle.json", *loaded.bundle.manifest.files])


def test_read_and_has(small):
    opened = Bundle.open(small, keep=["generator.onnx"])
    assert opened.has("golden.npz")
    assert not opened.has("report.json")
    with pytest.raises(BundleFormatError, match=r"has no report\.json"):
        opened.read("report.json")
    assert opened.read("bundle.json") == (small / "bundle.json").read_bytes()
    assert opened.path("golden.npz") == small / "golden.npz"
    with pytest.raises(BundleFormatError, match=r"has no report\.json"):
        opened.path("report.json")
    with pytest.raises(BundleFormatError, match="is one file, a folder was expected: unpack it"):
        packing.pack(Bundle.open(small), small.parent / "x.salgan").path("golden.npz")
    (small / "generator.onnx").write_bytes(b"exchanged")
    # What was verified is what is given; what is read later is verified later.
    assert opened.read("generator.onnx") == CONTENT["generator.onnx"]
    with pytest.raises(BundleIntegrityError, match="has 9 bytes, the manifest says 450"):
        opened.read("generator.onnx")


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({"generator.onnx"}, None, ""),
        ({"generator.onnx", "report.json"}, None, ""),
        ({"text_encoder.onnx", "tokenizer.json"}, BundleIntegrityError, r"does not list generator\.onnx"),
        ({"generator.onnx", "tokenizer.json"}, BundleIntegrityError, r"does not list text_encoder\.onnx"),
        ({"generator.onnx", "text_encoder.onnx"}, BundleIntegrityError, r"does not list tokenizer\.json"),
        (
            {"generator.onnx", "weights.bin"},
            BundleFormatError,
            r"lists 'weights\.bin', which this salgan-edge",
        ),
        ({"generator.onnx", "../a"}, BundleFormatError, r"lists '\.\./a', which this salgan-edge"),
    ],
)
def test_which_files_a_bundle_has(tmp_path, files, error, message):
    content = {name: CONTENT.get(name, b"x") for name in files}
    (tmp_path / "x.salgan").write_bytes(raw_zip(entries_of(content)))
    folder = make_folder(tmp_path / "folder", content)
    if error is None:
        assert set(Bundle.open(folder).manifest.files) == files
        assert set(Bundle.open(tmp_path / "x.salgan").manifest.files) == files
    else:
        with pytest.raises(error, match=message):
            Bundle.open(folder)
        with pytest.raises(BundleError):
            Bundle.open(tmp_path / "x.salgan")


def test_graph_that_is_none_is_named():
    with pytest.raises(BundleFormatError, match=r"onnxruntime cannot load generator\.onnx"):
        GraphSession(b"garbage", Execution("cpu"), name="generator.onnx")


# What is refused

GENERATOR = CONTENT["generator.onnx"]


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd", "../generator.onnx", "a/../../b", "..", "..\\generator.onnx", "C:generator.onnx", "c:/generator.onnx",
        "folder/generator.onnx", "folder/", "generator.onnx\0.txt", "notes.txt", "Generator.onnx", "",
    ],
)  # fmt: skip
def test_names_that_are_refused(run, tmp_path, name):
    data = raw_zip([*entries_of(CONTENT), (name, b"evil", {})])
    refused(run, tmp_path, data, "which is no file of a bundle: pack the bundle with salgan-edge bundle pack")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("report.json", r"holds report\.json, which its bundle\.json does not list"),
        ("generator.onnx", r"holds generator\.onnx twice"),
        ("bundle.json", r"holds bundle\.json twice"),
    ],
)
def test_entries_too_many(run, tmp_path, name, message):
    refused(run, tmp_path, raw_zip([*entries_of(CONTENT), (name, b"evil", {})]), message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": 0o120777}, "generator.onnx, which is no ordinary file"),
        ({"mode": 0o020644}, "which is no ordinary file"),
        ({"mode": 0o040755}, "which is no ordinary file"),
        ({"flags": 1}, "which is encrypted"),
        ({"flags": 0x41}, "which is encrypted"),
        ({"method": 8}, "which is compressed"),
        ({"method": 99}, "which is compressed"),
        ({"size": 2**31}, "gives two sizes for generator.onnx"),
        ({"size": 2**31, "stored": 2**31}, "has 2147483648 bytes, more than it can hold"),
        ({"size": 5000, "stored": 5000}, "more than it can hold"),
        ({"size": 2**32 - 1, "stored": 2**32 - 1}, "is damaged|can hold"),
        (
            {"extra": struct.pack("<HHQQ", 1, 16, 2**60, 2**60), "size": 2**32 - 1, "stored": 2**32 - 1},
            "can hold",
        ),
        ({"size": 449, "stored": 449}, "has 449 bytes, the manifest says 450"),
        ({"offset": 2**31}, "more than it can hold"),
        ({"offset": 0}, "is damaged"),
        ({"crc": 1}, "is damaged"),
    ],
)
def test_headers_that_are_refused(run, tmp_path, changes, message):
    refused(run, tmp_path, raw_zip(entries_of(CONTENT, **changes)), message)


def test_second_name_of_an_entry(tmp_path):
    """Newer versions of Python read it, older ones do not; it never counts."""
    second = b"../../"
    extra = struct.pack("<HHBI", 0x7075, 5 + len(second), 1, zlib.crc32(b"generator.onnx")) + second
    (tmp_path / "x.salgan").write_bytes(raw_zip(entries_of(CONTENT, extra=extra)))
    with contextlib.suppress(BundleError):
        assert Bundle.open(tmp_path / "x.salgan").read("generator.onnx") == GENERATOR


def test_predict_refuses_too(run, tmp_path):
    (tmp_path / "x.salgan").write_bytes(raw_zip([*entries_of(CONTENT), ("../evil", b"", {})]))
    code, out, err = run("predict", samples.path("coffee"), "a spoon", "--bundle", "x.salgan")
    assert (code, out) == (1, "")
    assert err == (
        "error: x.salgan holds ../evil, which is no file of a bundle: pack the bundle with salgan-edge bundle pack\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["x.salgan"]


def test_changed_content_with_a_right_checksum(run, tmp_path):
    changed = [(n, d.replace(b"gen", b"GEN"), c) for n, d, c in entries_of(CONTENT) if n != "bundle.json"]
    refused(run, tmp_path, raw_zip([entries_of(CONTENT)[0], *changed]), "generator.onnx in .* was changed")


def test_compressed_bomb(run, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bundle.json", b" " * 10_000_000)
    refused(run, tmp_path, (tmp_path / "bomb").read_bytes(), "which is compressed")


def test_many_entries(run, tmp_path):
    data = raw_zip([(f"{number:06d}", b"", {}) for number in range(3000)])
    refused(run, tmp_path, data, "has a directory of 156000 bytes")


def test_archives_that_are_none(run, tmp_path):
    whole = raw_zip(entries_of(CONTENT))
    refused(run, tmp_path, b"", "is no bundle")
    refused(
        run, tmp_path, b"\xff\xd8\xff\xe0 a photo" * 99, "is no bundle: a bundle folder, or a .salgan file"
    )
    refused(run, tmp_path, whole + b"appended", "is cut off or has something appended")
    refused(run, tmp_path, raw_zip(entries_of(CONTENT), comment=b"hello"), "is cut off or has something")
    refused(run, tmp_path, b"#!/bin/sh\n" + whole, "is no bundle")
    refused(run, tmp_path, raw_zip([]), r"has no bundle\.json")
    refused(run, tmp_path, raw_zip(entries_of(CONTENT)[1:]), r"has no bundle\.json")
    refused(run, tmp_path, raw_zip(entries_of(CONTENT)[:-1]), r"tokenizer\.json in .* is missing")
    end = whole.rindex(b"PK\x05\x06")
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, 0, 1)
    refused(run, tmp_path, whole[:end] + locator + whole[end:], "of the 64-bit kind")
    for manifest in (b"[" * 100_000, b"{}", b"\xff\xfe"):
        refused(run, tmp_path, raw_zip([("bundle.json", manifest, {})]), r"bundle\.json")


def test_cut_off_anywhere(tmp_path):
    whole = raw_zip(entries_of(CONTENT))
    for length in (*range(1, 200), *range(200, len(whole), 97), *range(len(whole) - 60, len(whole))):
        (tmp_path / "x.salgan").write_bytes(whole[:length])
        with pytest.raises(BundleError):
            Bundle.open(tmp_path / "x.salgan")


def test_any_change_is_refused_or_harmless(tmp_path):
    """Changed bytes give a bundle error or the same content, never another error."""
    whole = raw_zip(entries_of({"generator.onnx": GENERATOR}))
    choose = random.Random(0)
    headers = [*range(80), *range(whole.index(b"PK\x01\x02"), len(whole))]
    outcomes = set()
    for round_ in range(300):
        data = bytearray(whole)
        for _ in range(1 + round_ % 3):
            data[choose.choice(headers)] = choose.choice(
                [0, 1, 0x2F, 0x5C, 0x7F, 0xFF, choose.randrange(256)]
            )
        (tmp_path / "x.salgan").write_bytes(data)
        try:
            assert Bundle.open(tmp_path / "x.salgan").read("generator.onnx") == GENERATOR
            outcomes.add("same")
        except BundleError as error:
            outcomes.add("refused" if len(str(error).splitlines()) == 1 else str(error))
    assert outcomes == {"same", "refused"}


def refused(run, tmp_path, data, message):
    """Unpacking it gives one line and exit code 1, and writes nothing."""
    folder = tmp_path / "attack"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "x.salgan").write_bytes(data)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(BundleError, match=message):
        Bundle.open(folder / "x.salgan")
    code, out, err = run("bundle", "unpack", folder / "x.salgan", folder / "out")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_fields_of_the_wrong_kind(small):
    raw = json.loads((small / "bundle.json").read_text())
    for changes in (
        {"embedding_dimension": "512"},
        {"bundle_id": 7},
        {"training": []},
        {"text_id": None},
        {"files": {"generator.onnx": {"sha256": 1, "bytes": 2}}},
    ):
        with pytest.raises(BundleFormatError, match="is incomplete"):
            Manifest.from_json(json.dumps({**raw, **changes}))


# Without a text encoder


def test_without_text_encoder(packed, predictor, tmp_path):
    lite = packing.pack(Bundle.open(packed), tmp_path / "lite.salgan", without_text_encoder=True)
    assert lite.manifest.bundle_id == predictor.bundle.manifest.bundle_id
    assert lite.manifest.text_key == predictor.bundle.manifest.text_key != ""
    whole = set(predictor.bundle.manifest.files)
    assert set(lite.manifest.files) == whole - {"text_encoder.onnx", "tokenizer.json"}
    assert (tmp_path / "lite.salgan").stat().st_size < 12e6
    alone = SaliencyPredictor.load(tmp_path / "lite.salgan", device="cpu")
    photo = samples.load("coffee")
    assert np.array_equal(alone.predict(photo).map, predictor.predict(photo).map)
    with pytest.raises(
        PromptError, match=r'so "a spoon" has no vector: bake it with salgan-edge bake .*--prompt-pack'
    ):
        alone.predict(photo, "a spoon")
    # Packed once more, and unpacked, it stays what it is.
    again = packing.pack(lite, tmp_path / "again.salgan", without_text_encoder=True)
    assert (tmp_path / "again.salgan").read_bytes() == (tmp_path / "lite.salgan").read_bytes()
    assert packing.unpack(again.place, tmp_path / "folder").manifest == lite.manifest


def test_fields_of_the_future_survive_packing(small, tmp_path):
    packing.pack(Bundle.open(small), tmp_path / "x.salgan", without_text_encoder=True)
    raw = json.loads(Bundle.open(tmp_path / "x.salgan").manifest_json)
    assert raw["something_new"] == [1]
    assert set(raw["files"]) == {"generator.onnx", "golden.npz", "report.md"}


# The command line


def test_commands(run, small, tmp_path):
    identity = Bundle.open(small).manifest.bundle_id
    code, out, err = run("bundle", "pack", small, "x.salgan")
    assert (code, out, err) == (0, f"x.salgan: bundle {identity}, 0.0 MB\n", "")
    assert run("bundle", "pack", "--without-text-encoder", "x.salgan", "y.salgan")[0] == 0
    assert not Bundle.open(tmp_path / "y.salgan").has("text_encoder.onnx")
    code, out, err = run("bundle", "unpack", "x.salgan", "folder")
    assert (code, out, err) == (0, f"folder: bundle {identity}, 0.0 MB\n", "")
    code, out, err = run("bundle", "pack", "nowhere", "z.salgan")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert run("bundle", "pack", small)[0] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"small", "x.salgan", "y.salgan", "folder"}


def test_predict_with_a_file(run, packed, tmp_path):
    code, out, err = run("predict", samples.path("coffee"), "a spoon", "--bundle", packed)
    assert (code, out, err) == (0, "coffee_a-spoon.png\n", "")
    assert (tmp_path / "coffee_a-spoon.png").is_file()
