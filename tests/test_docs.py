"""README and documentation: links lead somewhere, examples are those of this version, every public name is described."""

from __future__ import annotations

import ast
import json
import re
import shlex
from importlib.resources import files
from pathlib import Path

import pytest
import typer

import salgan_edge
from salgan_edge.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "MODEL_CARD.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
MADE = {
    "reference/cli.md": None,
    "model-card.md": "MODEL_CARD.md",
    "changelog.md": "CHANGELOG.md",
    "index.md": "README.md",
}
"""Pages that the build makes, and the file each is made of."""


def named(path):
    return path.relative_to(ROOT).as_posix()


def blocks(path, language):
    return re.findall(
        rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def anchors(path):
    """Of a page's headings, as MkDocs and forges make them."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", text):
        if "://" in target:
            continue
        place = (page.parent / target).resolve() if target else page
        inside = place.relative_to(ROOT).as_posix().removeprefix("docs/")
        if not place.exists():
            assert inside in MADE, f"{named(page)} links to {target}"
            place = MADE[inside] and ROOT / MADE[inside]
        if anchor and place and inside != "reference/api.md":
            assert anchor in anchors(place), f"{named(page)} links to {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_examples_parse_and_import(page):
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("salgan_edge"):
                exec(compile(ast.Module([node], []), str(page), "exec"), {})


@pytest.mark.parametrize("page", ["README.md", "docs/quick-start.md", "docs/how-to/python.md"])
def test_python_examples_run(page, tmp_path, monkeypatch):
    """One after another, as somebody would paste them."""
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in blocks(ROOT / page, "python"):
        exec(compile(code, page, "exec"), names)
    result = names["result"]
    assert result.text == "a spoon"
    assert page == "docs/quick-start.md" or (tmp_path / "spoon.png").is_file()


def commands():
    """Every call of the command on a page, with the page."""
    for page in PAGES:
        for code in blocks(page, "sh"):
            for line in code.replace("\\\n", " ").splitlines():
                calls = re.split(r"&&|\|", line)
                for call in calls:
                    words = shlex.split(call.partition("  #")[0], comments=True)
                    if words[:1] == ["salgan-edge"]:
                        yield page, words[1:]


def test_commands_are_those_of_this_version():
    top = typer.main.get_command(app)
    found = list(commands())
    assert len(found) > 60
    for page, words in found:
        command, rest = top, list(words)
        while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
            assert rest[0] in command.commands, f"{named(page)}: salgan-edge {' '.join(words)}"
            command = command.commands[rest.pop(0)]
        known = {
            "--help",
            *(name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)),
        }
        given = [word for word in rest if re.match(r"-{1,2}[a-z]", word)]
        assert set(given) <= known, f"{named(page)}: salgan-edge {' '.join(words)}"


def test_records_fit_the_schema():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((files("salgan_edge") / "record.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    found = [json.loads(code) for page in PAGES for code in blocks(page, "json")]
    records = [record for record in found if "schema_version" in record]
    assert {record["type"] for record in records} == {"image", "frame", "summary"}
    for record in records:
        validator.validate(record)


def test_every_public_name_is_described():
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^::: (?:salgan_edge\.)?(\w+)$", page, re.MULTILINE))
    by_errors = set(salgan_edge.errors.__all__)
    assert set(salgan_edge.__all__) - by_errors - {"__version__"} <= described


def test_the_short_table_says_what_the_long_one_says():
    """Of the README's accuracy, every figure is on the page that has all of them."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("| test photos"))
    figures = re.findall(r"0\.\d{3}", "\n".join(lines[start : lines.index("", start)]))
    assert len(figures) > 8
    page = (ROOT / "docs" / "explanation" / "accuracy.md").read_text(encoding="utf-8")
    assert [figure for figure in figures if figure not in page] == []
