"""The command line as people type it, in this process where possible."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from salgan_edge import cli, samples
from salgan_edge.bundle import Bundle, default_bundle
from salgan_edge.cli.options import today
from salgan_edge.errors import ImageError
from salgan_edge.files import slug
from salgan_edge.images import read_image
from salgan_edge.inputs import expand_images, split_arguments


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in samples.NAMES:
        shutil.copy(samples.path(name), folder)
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


# What the arguments mean


def test_split_arguments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "b.jpg").write_bytes(b"x")
    assert split_arguments(["a.jpg", "a man"], []) == (["a.jpg"], ["a man"])
    assert split_arguments(["a.jpg", "b.jpg"], []) == (["a.jpg", "b.jpg"], [None])
    assert split_arguments(["*.jpg", "a man"], []) == (["*.jpg"], ["a man"])
    assert split_arguments(["a.jpg"], ["x", "y"]) == (["a.jpg"], ["x", "y"])
    assert split_arguments(["a.jpg", "z"], ["x"]) == (["a.jpg"], ["x", "z"])
    # Too long for a file name, and an empty text, are texts.
    assert split_arguments(["a.jpg", "word " * 500], []) == (["a.jpg"], ["word " * 500])
    assert split_arguments(["a.jpg", ""], []) == (["a.jpg"], [""])
    # A missing image among others fails when it is its turn.
    assert split_arguments(["a.jpg", "c.jpg"], []) == (["a.jpg", "c.jpg"], [None])
    assert split_arguments(["C.PNG", "a.jpg", "a man"], []) == (["C.PNG", "a.jpg"], ["a man"])
    for words in (
        ["no.jpg", "a man"],
        ["a man", "a.jpg"],
        ["no*.jpg"],
    ):
        with pytest.raises(ImageError, match="does not exist"):
            split_arguments(words, [])
    with pytest.raises(ImageError, match='no image was given, only the text "a man"'):
        split_arguments(["a man"], [])


def test_expand_images(tmp_path):
    for name in ("b.png", "a.JPG", "note.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    assert [p.name for p in expand_images([str(tmp_path)])] == ["a.JPG", "b.png"]
    assert [p.name for p in expand_images([str(tmp_path / "*.png"), str(tmp_path)])] == ["b.png", "a.JPG"]
    with pytest.raises(ImageError, match="holds no images"):
        expand_images([str(tmp_path / "empty")])


def test_patterns_that_match_no_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "why").mkdir()
    (tmp_path / "wha").write_text("no image")
    # A question may end in a question mark, whatever lies around.
    assert split_arguments(["a.jpg", "wh?"], []) == (["a.jpg"], ["wh?"])
    for words in (["wh?", "a cat"], ["a.jpg", "photo/"]):
        with pytest.raises(ImageError, match="does not exist"):
            split_arguments(words, [])
    assert split_arguments(["a.jpg"], ["x", "x"]) == (["a.jpg"], ["x"])
    assert len(expand_images(["a.jpg", str(tmp_path / "a.jpg")])) == 1


def test_maps_spare_inputs_and_other_results(run, tmp_path):
    shutil.copy(samples.path("chelsea"), tmp_path / "cat_map.png")
    before = (tmp_path / "cat_map.png").read_bytes()
    assert run("predict", "cat_map.png", "x", "-o", "cat.png", "--map")[0] == 0
    assert (tmp_path / "cat_map.png").read_bytes() == before
    code, out, _ = run("predict", "cat_map.png", "-t", "x", "-t", "x_map", "--map-format", "png", "-o", "q")
    assert code == 0
    assert len(out.split()) == len(set(out.split())) == 5


def test_folder_that_may_be_a_text_is_noted(run, tmp_path, photos):
    shutil.copytree(photos, tmp_path / "cat")
    code, _, err = run("predict", samples.path("coffee"), "cat", "-o", "out")
    assert code == 0
    assert err == "note: cat is a folder here; if it is the text, put it after --text\n"


def test_output_that_fails_stops_the_batch(run, photos, tmp_path):
    (tmp_path / "file").write_text("x")
    code, out, err = run("predict", photos, "a thing", "-o", "file")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert "cannot write" in err


def test_text_that_is_no_unicode(run):
    code, _, err = run("predict", samples.path("coffee"), "caf\udce9")
    assert code == 1
    assert "is not valid Unicode" in err


def test_slug():
    assert slug("A man, in a Raincoat!") == "a-man-in-a-raincoat"
    assert slug("../../etc/passwd") == "etc-passwd"
    assert slug("🦒") == "prompt"
    assert slug(None) == "free-viewing"
    assert slug("日本語") == "日本語"
    assert len(slug("word " * 100)) <= 40


# predict


def test_predict_writes_an_overlay(run, tmp_path):
    code, out, err = run("predict", samples.path("coffee"), "a spoon")
    assert (code, err) == (0, "")
    assert out.strip() == "coffee_a-spoon.png"
    assert read_image(tmp_path / "coffee_a-spoon.png").shape == (400, 600, 3)
    assert names(tmp_path) == ["coffee_a-spoon.png"]


def test_predict_free_viewing_into_a_named_file(run, tmp_path):
    code, _, _ = run("predict", samples.path("coffee"), "-o", "out/view.jpg", "--map", "--map-format", "npy")
    assert code == 0
    assert names(tmp_path / "out") == ["view.jpg", "view_map.npy"]
    assert np.load(tmp_path / "out" / "view_map.npy").shape == (400, 600)


def test_predict_several_prompts_give_a_sheet(run, tmp_path):
    code, _, _ = run(
        "predict", samples.path("chelsea"), "-t", "a cat", "-t", "the nose", "--map", "-o", "out"
    )
    assert code == 0
    assert names(tmp_path / "out") == [
        "chelsea_a-cat.png",
        "chelsea_a-cat_map.png",
        "chelsea_sheet.png",
        "chelsea_the-nose.png",
        "chelsea_the-nose_map.png",
    ]


def test_predict_json(run, predictor):
    code, out, _ = run(
        "predict", samples.path("coffee"), "-t", "a spoon", "-t", "a cup", "--json", "--threads", 1
    )
    assert code == 0
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["text"] for record in records] == ["a spoon", "a cup"]
    for record in records:
        expected = predictor.predict(samples.path("coffee"), record["text"])
        assert record["file"] == str(samples.path("coffee"))
        assert (record["peak"]["x"], record["peak"]["y"]) == expected.peak
        assert record["peaks"][0]["value"] == pytest.approx(1, abs=0.02)
        assert 1 <= len(record["peaks"]) <= 5
        assert {"decode", "text", "generator", "resize"} <= set(record["milliseconds"])
        assert Path(record["files"]["overlay"]).is_file()
        assert record["device"] == "cpu"
        assert record["bundle"] == predictor.bundle.manifest.bundle_id


def test_predict_folder(run, photos, tmp_path):
    code, out, err = run("predict", photos, "a thing", "-o", "out")
    assert (code, err) == (0, "")
    assert names(tmp_path / "out") == ["astronaut_a-thing.png", "chelsea_a-thing.png", "coffee_a-thing.png"]
    assert len(out.splitlines()) == 3


def test_one_bad_file_does_not_stop_the_rest(run, photos, tmp_path):
    (photos / "bad.jpg").write_text("no image")
    code, _, err = run("predict", photos, "a thing", "-o", "out")
    assert code == 1
    assert len(names(tmp_path / "out")) == 3
    lines = err.splitlines()
    assert len(lines) == 2
    assert "bad.jpg is not a readable image" in lines[0]
    assert lines[1] == "error: 1 of 4 images could not be used; the others were written"


def test_same_names_do_not_overwrite_each_other(run, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "more")
    code, _, _ = run(
        "predict", photos / "coffee.jpg", tmp_path / "more" / "coffee.jpg", "a spoon", "-o", "out"
    )
    assert code == 0
    assert names(tmp_path / "out") == ["coffee_a-spoon-2.png", "coffee_a-spoon.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.jpg", "a dog"], "missing.jpg does not exist"),
        (["a dog"], "no image was given"),
        (["@empty.jpg", "a dog"], "is empty (0 bytes)"),
        (["@text.jpg", "a dog"], "is not a readable image"),
        (["@folder", "a dog"], "holds no images"),
        (["@coffee.jpg", ""], "the text is empty"),
        (["@coffee.jpg", "a dog", "-o", "@text.jpg/out.png"], "cannot write"),
        (["@coffee.jpg", "a dog", "-o", "@coffee.jpg"], "is an input"),
        (["@coffee.jpg", "-t", "a", "-t", "b", "-o", "one.png"], "one file for 1 inputs and 2 texts"),
        (["@coffee.jpg", "a dog", "--bundle", "@folder"], "has no bundle.json"),
        (["@coffee.jpg", "a dog", "--bundle", "@text.jpg"], "is no bundle"),
        (["@coffee.jpg", "--prompt-pack", "@text.jpg"], "is no prompt pack"),
        (["@coffee.jpg", "a dog", "--bundle", "nowhere"], "does not exist: give a bundle folder"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, arguments, message):
    shutil.copy(samples.path("coffee"), tmp_path)
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "folder").mkdir()
    before = names(tmp_path)
    coffee = (tmp_path / "coffee.jpg").read_bytes()
    code, out, err = run("predict", *(a.replace("@", f"{tmp_path}/") for a in arguments))
    assert code == 1
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: ")
    assert message in err
    assert names(tmp_path) == before
    assert (tmp_path / "coffee.jpg").read_bytes() == coffee


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_folder(run, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    code, _, err = run("predict", samples.path("coffee"), "a spoon", "-o", "locked")
    assert code == 1
    assert "cannot write" in err


def test_long_text_warns_and_goes_on(run, tmp_path):
    code, out, err = run("predict", samples.path("coffee"), " ".join(["spoon"] * 499 + ["zebra"]))
    assert code == 0
    assert len(err.splitlines()) == 1
    assert err.startswith("warning: the text has more than 77 tokens")
    assert "zebra" in err
    assert out.strip() in names(tmp_path)


@pytest.mark.parametrize("text", ["🦒🦒", "日本語のテキスト", "a/b\\c: *?"])
def test_any_text_makes_a_file(run, tmp_path, text):
    code, out, _ = run("predict", samples.path("coffee"), text)
    assert code == 0
    assert out.strip() in names(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [["predict"], ["predict", "--no-such-option"], ["nothing"], ["predict", "x", "--device", "tpu"], []],
)
def test_wrong_usage_exits_with_2(run, arguments):
    assert run(*arguments)[0] == 2


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["salgan-edge", "predict", "missing.jpg", "a dog", "--debug"])
    with pytest.raises(ImageError):
        cli.main()


def test_version(run):
    from salgan_edge import __version__

    assert run("--version")[:2] == (0, f"salgan-edge {__version__}\n")


# In a process of its own


def test_without_onnxruntime(tmp_path):
    """Neither of the two packages installed: one line that says how to get one."""
    script = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'onnxruntime': raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import salgan_edge.devices\n"
        "salgan_edge.devices.installed_packages = dict\n"
        f"sys.argv = ['salgan-edge', 'predict', {str(samples.path('coffee'))!r}, 'a spoon']\n"
        "from salgan_edge.cli import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: onnxruntime is not installed: pip install onnxruntime, or 'onnxruntime-gpu[cuda,cudnn]' for NVIDIA GPUs"
    ]


def test_without_torch(tmp_path):
    """Authoring commands name the extra that they need."""
    for command, extra in (
        (["export"], "export"),
        (["train", "--data", "."], "train"),
        (["distill", "--data", "."], "train"),
    ):
        script = (
            "import sys\n"
            "class Block:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name.split('.')[0] in ('torch', 'onnx', 'transformers', 'safetensors'):\n"
            "            raise ModuleNotFoundError(name, name=name)\n"
            "sys.meta_path.insert(0, Block())\n"
            f"sys.argv = ['salgan-edge', *{command!r}]\n"
            "from salgan_edge.cli import main\nmain()"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert f"pip install 'salgan-edge[{extra}]'" in done.stderr


def test_installed_command():
    command = shutil.which("salgan-edge", path=str(Path(sys.executable).parent))
    assert command, "the console script is not installed beside this Python"
    done = subprocess.run(
        [command, "predict", "missing.jpg", "a dog"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert (
        done.stderr
        == "error: missing.jpg does not exist: an image, a video, a folder or a matching pattern was expected\n"
    )


def commands():
    """Every command by its name, those of groups too."""

    def walk(command, name):
        if hasattr(command, "commands"):
            for part, child in command.commands.items():
                yield from walk(child, f"{name} {part}".strip())
        else:
            yield name, command

    return dict(walk(typer.main.get_command(cli.app), ""))


def test_a_missing_image_among_several(run, tiny_bundle, photo_file):
    code, out, err = run("predict", photo_file, "nope.jpg", "a cat", "-b", tiny_bundle)
    assert code == 1
    assert out == "photo_a-cat.png\n"
    assert err.splitlines() == [
        "error: nope.jpg does not exist: give the path of an image",
        "error: 1 of 2 images could not be used; the others were written",
    ]
    # Words that are no path of an image are a text without quotation marks.
    code, out, err = run("predict", photo_file, "a", "red", "ball", "-b", tiny_bundle)
    assert (code, out) == (1, "")
    assert "a does not exist" in err
    assert "a text goes last, in quotation marks" in err


# Spellings of before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("evaluate --data sjtu_tis --compare a=b", "evaluate --gaze sjtu_tis --against a=b"),
        ("evaluate --data=sjtu_tis", "evaluate --gaze=sjtu_tis"),
        ("predict a.jpg --prompts p.npz", "predict a.jpg --prompt-pack p.npz"),
        ("benchmark --devices auto --prompts 1,2", "benchmark --device all --prompt-counts 1,2"),
        ("benchmark --devices=auto", "benchmark --device all"),
        ("data prepare x --strict", "data prepare x --all-or-nothing"),
        ("train --data x --size 64 --devices 2", "train --data x --input-size 64 --processes 2"),
        # What was not renamed, and texts that look like options.
        ("evaluate --prompts labels.csv --strict", "evaluate --prompts labels.csv --strict"),
        ("predict a.jpg -- --prompts", "predict a.jpg -- --prompts"),
        ("--version", "--version"),
        ("", ""),
    ],
)
def test_older_spellings(old, new):
    found, notes = today(old.split())
    assert found == new.split()
    assert bool(notes) == (old != new)
    assert today(new.split()) == (new.split(), [])


def test_older_spellings_are_noted_once(run, tiny_bundle, photo_file):
    assert run("bake", "a dog", "-o", "p.npz", "-b", tiny_bundle)[0] == 0
    code, _, err = run("predict", photo_file, "--prompts", "p.npz", "-b", tiny_bundle)
    assert code == 0
    assert (
        err
        == "note: --prompts of predict is now --prompt-pack; the old spelling goes with the next release\n"
    )


def test_every_option_has_one_meaning():
    """Commands that share an option's name share its meaning: its help is the same, or about the same thing."""
    different = {}
    for name, command in commands().items():
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--"):
                    different.setdefault(option, {}).setdefault(parameter.help, []).append(name)
    shared = {option for option, helps in different.items() if len(helps) > 1}
    # One meaning in the words of each command.
    assert shared <= {
        "--output", "--json", "--csv", "--device", "--threads", "--data", "--text-encoder", "--every", "--split", "--texts",
        "--seed", "--epochs", "--batch-size", "--learning-rate", "--name", "--gaze", "--input-size",
    }, shared  # fmt: skip


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_bundle_by_its_place_or_by_option(run, tiny_bundle, command):
    by_place, by_option = run(command, tiny_bundle), run(command, "--bundle", tiny_bundle)
    assert by_place[0] == by_option[0] == 0
    assert by_place[1].splitlines()[0] == by_option[1].splitlines()[0]
    assert run(command, tiny_bundle, "-b", tiny_bundle)[0] == 2


def test_the_default_bundle_is_packed_where_none_is_named(run):
    code, out, _ = run("bundle", "pack", "x.salgan")
    assert code == 0
    assert default_bundle().name == "default"
    assert Bundle.open("x.salgan").manifest.bundle_id in out
    assert run("bundle", "pack", "a", "b", "c")[0] == 2
    # A file of this name would be taken for the installed bundle.
    code, _, err = run("bundle", "pack", "small")
    assert code == 2
    assert "small is a bundle" in err
