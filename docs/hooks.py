"""What MkDocs makes of this site that no page holds by itself.

The start page is README.md, the model card and the changes are the files of the repository: each is written once. The
reference of the command line is read from the commands, that of records from their JSON Schema.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
TAKEN = {"index.md": "README.md", "model-card.md": "MODEL_CARD.md", "changelog.md": "CHANGELOG.md"}
"""Pages that are files of the repository."""
SCHEMA = ROOT / "salgan_edge" / "record.schema.json"

_LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")
_REMOTE = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["']?(?:https?:)?//|<link\b[^>]*\bhref=["']?(?:https?:)?//"""
)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made here."""
    pages = {page: _taken(ROOT / source) for page, source in TAKEN.items()}
    pages["reference/cli.md"] = command_line()
    for page, content in pages.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001 - MkDocs passes names
    """Fill in the tables of records."""
    return re.sub(r"<!-- record: (\w+) -->", lambda mark: record_fields(mark[1]), markdown)


def on_post_page(output: str, page: Any, config: Any) -> str:  # noqa: ARG001
    """Refuse a page that loads anything from another server: who reads the documentation is nobody's business.

    Raises:
        PluginError: it does.
    """
    if found := _REMOTE.search(output):
        raise PluginError(f"{page.file.src_uri} loads from another server: {found[0]}")
    return output


class Examples(griffe.Extension):
    """Show the doctests in docstrings as code: to Markdown, ``>>>`` is a quotation."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Fence each of them."""
        if obj.docstring is not None:
            text = re.sub(r"^::\n\n", "", obj.docstring.value, flags=re.MULTILINE)
            fenced = re.sub(
                r"^>>> (?:.+\n?)+",
                lambda code: f"```pycon\n{code[0].rstrip()}\n```\n",
                text,
                flags=re.MULTILINE,
            )
            obj.docstring.value = fenced.replace("  # doctest: +SKIP", "")


def _taken(path: Path) -> str:
    """A file of the repository with its links as seen from this folder; links to other files become plain text."""
    pages = {source: page for page, source in TAKEN.items()}

    def link(found: re.Match[str]) -> str:
        before, target, anchor, after = found.groups()
        if "://" in target:
            return found[0]
        inside = target.removeprefix("docs/") if target.startswith("docs/") else pages.get(target)
        return "](" + _TEXT if inside is None else f"{before}{inside}{anchor or ''}{after}"

    text = _LINK.sub(link, path.read_text(encoding="utf-8"))
    return re.sub(r"\[([^\]]*)\]\(" + _TEXT, r"\1", text)


_TEXT = "\0"


# The command line


def command_line() -> str:
    """Every command with its arguments and options, as ``--help`` knows them."""
    import typer  # noqa: PLC0415

    from salgan_edge.cli import app  # noqa: PLC0415

    top = typer.main.get_command(app)
    context = top.make_context("salgan-edge", ["predict", "x"], resilient_parsing=True)
    lines = [
        "# Command line",
        "",
        top.help or "",
        "",
        "This page is made from the commands themselves: it says what `--help` says.",
        "",
        *_options(top, context),
    ]
    for command, inner in _commands(top, context):
        lines += ["", f"## {inner.command_path}", "", *_described(command.help or "")]
        lines += [
            "",
            f"```text\n{inner.command_path} {' '.join(command.collect_usage_pieces(inner))}\n```",
            "",
        ]
        lines += _options(command, inner)
    return "\n".join(lines)


def _commands(group: Any, context: Any) -> Any:
    """Commands with their contexts, those of groups too."""
    for name, command in group.commands.items():
        inner = type(context)(command, info_name=name, parent=context)
        if hasattr(command, "commands"):
            yield from _commands(command, inner)
        else:
            yield command, inner


def _described(text: str) -> list[str]:
    """A command's text, its examples as code."""
    return [
        f"```sh\n{part.strip()}\n```\n" if part.startswith("salgan-edge ") else f"{part}\n"
        for part in text.split("\n\n")
    ]


def _options(command: Any, context: Any) -> list[str]:
    lines = ["| option | what |", "|---|---|"]
    for parameter in command.get_params(context):
        found = parameter.get_help_record(context)
        if found is not None:
            # Types such as list[str] say less than the words beside them.
            names = re.sub(r" <(list\[)?(str|path|Path|int|float|int range|float range)\]?>", "", found[0])
            lines.append(f"| `{names}` | {_cell(found[1]).replace('<', '&lt;')} |")
    return lines


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# Records


def record_fields(kind: str) -> str:
    """The fields of one definition of the record's schema as a table."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    part = schema if kind == "record" else schema["$defs"][kind]
    required = part.get("required", ())
    lines = ["| field | type | what |", "|---|---|---|"]
    for name, field in part["properties"].items():
        if "const" in field and kind != "record":
            continue
        whole = {**schema["$defs"].get(str(field.get("$ref", "")).rpartition("/")[2], {}), **field}
        often = "" if name in required else " (not always there)"
        lines.append(f"| `{name}` | {_type(whole)} | {_cell(whole.get('description', ''))}{often} |")
    return "\n".join(lines)


def _type(field: dict[str, Any]) -> str:
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return " or ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    if "oneOf" in field and all("type" in one for one in field["oneOf"]):
        return " or ".join(dict.fromkeys(_type(one) for one in field["oneOf"]))
    kinds = field.get("type", "object")
    return " or ".join([kinds] if isinstance(kinds, str) else kinds)
