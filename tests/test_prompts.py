"""Prompt packs: the vectors of the text encoder, without it."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from salgan_edge import PromptPack, SaliencyPredictor, cli, packing, samples
from salgan_edge.bundle import Bundle, default_bundle
from salgan_edge.errors import InputError, OutputError, PromptError
from salgan_edge.tokenizer import ClipTokenizer

TEXTS = ["a man in a raincoat", "white lamps", "a spoon", "日本語"]


@pytest.fixture(scope="module")
def pack(predictor):
    return predictor.bake(TEXTS)


@pytest.fixture(scope="module")
def lite(tmp_path_factory):
    """The embedded bundle without its text encoder."""
    file = tmp_path_factory.mktemp("lite") / "lite.salgan"
    packing.pack(Bundle.open(default_bundle()), file, without_text_encoder=True)
    return file


def manifest(**changes):
    return replace(Bundle.open(default_bundle()).manifest, **changes)


# What a pack is


def test_vectors_are_the_text_encoders(pack, predictor, tmp_path):
    assert np.array_equal(pack.vectors, predictor.embed(TEXTS))
    pack.save(tmp_path / "p.npz")
    loaded = PromptPack.load(tmp_path / "p.npz")
    assert loaded.texts == tuple(TEXTS)
    assert np.array_equal(loaded.vectors, pack.vectors)
    assert loaded.vectors.dtype == np.float32
    assert (loaded.bundle_id, loaded.text_space, loaded.text_key) == (
        predictor.bundle.manifest.bundle_id, "clip-vit-base-patch32", predictor.bundle.manifest.text_key,
    )  # fmt: skip
    assert np.array_equal(loaded.vector("a spoon"), pack.vectors[2])
    assert "a spoon" in loaded
    assert "A spoon" not in loaded
    with pytest.raises(ValueError, match="read-only"):
        loaded.vectors[0, 0] = 1


def test_file_is_readable_without_this_package(pack, tmp_path):
    pack.save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
        assert file["texts"].tolist() == TEXTS
        assert file["vectors"].shape == (4, 512)
        assert int(file["format_version"]) == 1


def test_same_pack_same_bytes(pack, tmp_path):
    pack.save(tmp_path / "a.npz")
    PromptPack.load(tmp_path / "a.npz").save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"a.npz", "b.npz"}


def test_selection(pack):
    chosen = pack.select(["a spoon", "white lamps", "a spoon"])
    assert chosen.texts == ("a spoon", "white lamps")
    assert np.array_equal(chosen.vectors, pack.vectors[[2, 1]])
    assert chosen.text_key == pack.text_key
    with pytest.raises(
        PromptError, match='does not hold "White Lamp": the closest of its 4 texts are "white lamps"'
    ):
        pack.select(["a spoon", "White Lamp"])
    with pytest.raises(PromptError, match='it holds 4 texts, such as "a man in a raincoat"'):
        pack.vector("zzzzzzzz")


@pytest.mark.parametrize(
    ("texts", "vectors", "message"),
    [
        ((), np.ones((0, 4)), "there are no texts"),
        (("a", ""), np.eye(2), "is empty"),
        (("a", "b\0"), np.eye(2), "holds a zero byte"),
        (("a", "a"), np.eye(2), "occurs twice"),
        (("a", "b"), np.eye(3), r"2 texts and vectors of shape \(3, 3\)"),
        (("a",), np.ones(3), "a row for each text"),
        (("a", "b"), np.ones((2, 3)), "has not the length 1"),
        (("a", "b"), np.array([[1, 0], [np.nan, 0]]), "has not the length 1"),
    ],
)
def test_packs_that_are_none(texts, vectors, message):
    with pytest.raises(PromptError, match=message):
        PromptPack(texts, vectors, "id", "space", "key")


# Which bundles it fits


def test_bundles_of_the_same_text_encoder(pack):
    mine = manifest()
    pack.check(mine)
    # Another generator, size or name makes no difference: the text encoder counts.
    made = replace(pack, text_key="e" * 16)
    made.check(manifest(text_id="e" * 16, bundle_id="another", input_size=(512, 512)))
    made.check(manifest(text_id="e" * 16, files={}))
    for changes, message in (
        ({"text_id": "f" * 16}, "was made by another text encoder"),
        (
            {"text_space": "clip-vit-large-patch14"},
            "is of text space clip-vit-base-patch32, bundle .* of clip-vit-l",
        ),
        ({"embedding_dimension": 768}, "vectors of length 512, bundle .* reads 768"),
        ({"files": {}, "text_id": ""}, "was made by another text encoder"),
    ):
        with pytest.raises(InputError, match=message):
            pack.check(manifest(**changes))
    with pytest.raises(InputError, match="another text encoder"):
        replace(pack, text_key="").check(manifest(files={}, text_id=""))


@pytest.mark.parametrize("name", ["text_encoder.onnx", "tokenizer.json"])
def test_text_key_of_older_bundles_is_of_both_files(name):
    mine = manifest()
    record = replace(mine.files[name], sha256="0" * 64)
    assert mine.text_id in ("", mine.text_key)
    changed = replace(mine, text_id="", files={**mine.files, name: record})
    assert changed.text_key != replace(mine, text_id="").text_key
    other = replace(mine.files["generator.onnx"], sha256="0" * 64)
    unchanged = replace(mine, text_id="", files={**mine.files, "generator.onnx": other})
    assert unchanged.text_key == replace(mine, text_id="").text_key


# Predicting with it


def test_same_maps_without_the_text_encoder(pack, predictor, lite, tmp_path):
    pack.save(tmp_path / "p.npz")
    photo = samples.load("coffee")
    expected = predictor.predict(photo, [*TEXTS, None])
    for alone in (
        SaliencyPredictor.load(lite, device="cpu", prompts=str(tmp_path / "p.npz")),
        SaliencyPredictor.load(device="cpu", prompts=pack),
    ):
        for mine, other in zip(alone.predict(photo, [*TEXTS, None]), expected, strict=True):
            assert np.array_equal(mine.map, other.map)
        assert alone._text_encoder is None
        assert alone._tokenizer is None


def test_text_beside_the_pack(pack, predictor, lite):
    alone = SaliencyPredictor.load(lite, device="cpu", prompts=pack)
    with pytest.raises(PromptError, match='does not hold "a spoo": the closest of its 4 texts are "a spoon"'):
        alone.embed(["a spoon", "a spoo"])
    # A bundle that has its text encoder uses it.
    both = SaliencyPredictor.load(device="cpu", prompts=pack)
    assert np.array_equal(both.embed(["a spoon", "a cup"]), predictor.embed(["a spoon", "a cup"]))
    # What a pack holds can be baked on without a text encoder.
    assert alone.bake(["white lamps"]).texts == ("white lamps",)


def test_pack_of_another_text_encoder_is_refused_at_loading(pack):
    with pytest.raises(InputError, match="was made by another text encoder"):
        SaliencyPredictor.load(device="cpu", prompts=replace(pack, text_key="0" * 16))


def test_tokenizer_from_its_content():
    file = default_bundle() / "tokenizer.json"
    expected = ClipTokenizer(file).encode("naïve café")
    assert ClipTokenizer(file.read_bytes()).encode("naïve café") == expected
    assert ClipTokenizer(file.read_text(encoding="utf-8")).encode("naïve café") == expected


# Files that are something else


def arrays_of(pack, **changes):
    arrays = {
        "format_version": np.array(1), "texts": np.array(pack.texts), "vectors": pack.vectors,
        "bundle_id": np.array("id"), "text_space": np.array("space"), "text_key": np.array("key"), **changes,
    }  # fmt: skip
    return {name: value for name, value in arrays.items() if value is not None}


def huge(shape, kind):
    """An array that says it has a shape, and has no content."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vectors": None}, "has no vectors: this is no prompt pack"),
        ({"text_key": None}, "has no text_key: this is no prompt pack"),
        ({"format_version": np.array(2)}, "version 2, this salgan-edge reads up to 1: pip install -U"),
        ({"vectors": np.eye(4)}, "vectors are float64"),
        ({"vectors": np.eye(3, dtype=np.float32)}, "text (3,) was expected"),
        ({"vectors": np.zeros((4, 512), np.float32)}, "has not the length 1"),
        ({"texts": np.arange(4)}, "text (4,) was expected"),
        ({"texts": np.array(["a", "a", "b", "c"])}, "occurs twice"),
        ({"texts": np.array([{}] * 4, object)}, "allow_pickle=False"),
        ({"bundle_id": np.array(["a", "b"])}, "text () was expected"),
        ({"extra": np.arange(3)}, "is no prompt pack"),
    ],
)
def test_damaged_packs(pack, tmp_path, changes, message):
    np.savez(tmp_path / "p.npz", **arrays_of(pack, **changes))
    with pytest.raises(InputError) as caught:
        PromptPack.load(tmp_path / "p.npz")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("texts", (10**12,), "<U0"),
        ("texts", (4,), "<U1000000000"),
        ("vectors", (4, 10**11), "<f4"),
        ("vectors", (-4, 512), "<f4"),
        ("vectors", (2**40, 2**40), "<f4"),
    ],
)
def test_arrays_that_claim_to_be_huge(pack, tmp_path, name, shape, kind):
    np.savez(tmp_path / "whole.npz", **arrays_of(pack))
    with zipfile.ZipFile(tmp_path / "whole.npz") as whole, zipfile.ZipFile(tmp_path / "p.npz", "w") as file:
        for member in whole.namelist():
            changed = member == f"{name}.npy"
            file.writestr(member, huge(shape, kind) if changed else whole.read(member))
    with pytest.raises(InputError, match="is damaged"):
        PromptPack.load(tmp_path / "p.npz")


def test_files_that_are_no_packs(pack, tmp_path):
    with pytest.raises(
        InputError, match=r"does not exist: a prompt pack was expected, make it with salgan-edge bake"
    ):
        PromptPack.load(tmp_path / "nothing.npz")
    np.savez_compressed(tmp_path / "p.npz", **arrays_of(pack))
    np.savez(tmp_path / "whole.npz", **arrays_of(pack))
    PromptPack.load(tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    for content in ((tmp_path / "p.npz").read_bytes(), b"", b"text", whole[:-100], whole[:3000]):
        (tmp_path / "p.npz").write_bytes(content)
        with pytest.raises(InputError, match="is no prompt pack"):
            PromptPack.load(tmp_path / "p.npz")
    middle = whole.index(b"\x93NUMPY", 600)
    for place in range(middle, middle + 120, 7):
        (tmp_path / "p.npz").write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(InputError):
            PromptPack.load(tmp_path / "p.npz")


# The command line


def test_bake_and_predict(run, lite, tmp_path):
    (tmp_path / "texts.txt").write_text("\ufeffa spoon\n\n  a cup \n", encoding="utf-8")
    code, out, err = run("bake", "a man", "a spoon", "--file", "texts.txt", "-o", "out/p.npz")
    identity = Bundle.open(default_bundle()).manifest.bundle_id
    assert (code, out, err) == (0, f"out/p.npz: 3 texts of bundle {identity}\n", "")
    assert PromptPack.load(tmp_path / "out" / "p.npz").texts == ("a man", "a spoon", "a cup")

    code, out, err = run(
        "predict", samples.path("coffee"), "--prompts", "out/p.npz", "-b", lite, "--json", "-o", "a"
    )
    assert (code, err) == (0, "")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["text"] for record in records] == ["a man", "a spoon", "a cup"]
    code, out, err = run(
        "predict", samples.path("coffee"), "-t", "a cup", "--prompts", "out/p.npz", "-b", lite
    )
    assert (code, out, err) == (0, "coffee_a-cup.png\n", "")
    code, out, err = run("predict", samples.path("coffee"), "a cups", "--prompts", "out/p.npz", "-b", lite)
    assert (code, out) == (1, "")
    assert err.startswith(
        'error: the prompt pack does not hold "a cups": the closest of its 3 texts are "a cup"'
    )
    code, out, err = run("predict", samples.path("coffee"), "a cup", "-b", lite)
    assert (code, out) == (1, "")
    assert "salgan-edge bake" in err
    assert "--prompts" in err
    assert run("predict", samples.path("coffee"), "-b", lite)[0] == 0


def test_pack_that_is_refused_is_one_line(run, pack, tmp_path):
    replace(pack, text_space="other").save(tmp_path / "p.npz")
    code, out, err = run("predict", samples.path("coffee"), "--prompts", "p.npz")
    assert (code, out) == (1, "")
    assert err.startswith("error: the prompt pack is of text space other, bundle ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "--file", "nothing.txt"], "nothing.txt cannot be read"),
        (["--file", "latin.txt"], "latin.txt is not in UTF-8"),
        (["--file", "empty.txt"], "empty.txt holds no texts"),
        (["a dog", ""], "text is empty"),
        (["a dog", "-o", "other.npz"], "other.npz is no prompt pack that may be replaced"),
        (["a dog", "-o", "latin.txt/p.npz"], "cannot write"),
        (["a dog", "--bundle", "nowhere"], "nowhere does not exist"),
    ],
)
def test_bad_baking_is_one_line(run, tmp_path, arguments, message):
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    (tmp_path / "empty.txt").write_text("\n \n")
    np.savez(tmp_path / "other.npz", a=np.arange(3))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, out, err = run("bake", *arguments)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert message in err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_wrong_usage_of_bake(run):
    assert run("bake")[0] == 2
    assert run("bake", "a", "-o", "p.txt")[0] == 2


def test_long_text_warns(run, tmp_path):
    code, _, err = run("bake", " ".join(["spoon"] * 200))
    assert code == 0
    assert err.startswith("warning: the text has more than 77 tokens")
    assert (tmp_path / "prompts.npz").is_file()
    # An older pack is replaced.
    assert run("bake", "a dog")[0] == 0
    assert PromptPack.load(tmp_path / "prompts.npz").texts == ("a dog",)
    shutil.copy(default_bundle() / "bundle.json", tmp_path / "prompts.npz")
    with pytest.raises(OutputError, match="may be replaced"):
        cli.bake(["a dog"], output=tmp_path / "prompts.npz")
