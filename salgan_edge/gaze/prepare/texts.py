"""What viewers were told: tables of texts, and the names and words that stand for viewing conditions."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from salgan_edge.errors import DataError, MissingDependencyError
from salgan_edge.gaze.folder import FREE_VIEWING
from salgan_edge.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from salgan_edge.gaze.folder import Problems
    from salgan_edge.gaze.prepare import Columns

__all__ = [
    "IMAGE_COLUMNS",
    "TEXT_SUFFIXES",
    "Texts",
    "condition_named",
    "find_column",
    "parse_name",
    "read_csv",
    "read_texts",
    "short_name",
    "simple_name",
]

TEXT_SUFFIXES = (".json", ".csv", ".xlsx")

IMAGE_COLUMNS = (
    "image",
    "imagename",
    "img",
    "imgname",
    "file",
    "filename",
    "name",
    "photo",
    "imageid",
    "id",
    "图片",
)
"""Usual headings of a column of image names, as `find_column` compares them."""
_TEXT_COLUMNS = ("text", "caption", "description", "prompt", "sentence", "文本")
_CONDITION_COLUMNS = ("condition", "type", "kind", "category", "texttype", "描述种类")


_BY_SUFFIX = {"0": FREE_VIEWING, "1": "general", "2": "nonsalient", "3": "salient", "": "whole"}
"""Condition by the number after the photo's name: ``71_2`` is photo 71 told of what is not salient."""

_NAME = re.compile(r"(?P<photo>.+?)(?:_(?P<suffix>[0-3]))?", re.DOTALL)

# The published spreadsheet is in Chinese: "whole", "not salient", "salient".
_WORDS = {
    "整体": "general", "非显著": "nonsalient", "显著": "salient",
    "nonsal": "nonsalient", "sal": "salient", "free": FREE_VIEWING, "freeviewing": FREE_VIEWING,
    **{name: name for name in _BY_SUFFIX.values()},
    **{suffix: name for suffix, name in _BY_SUFFIX.items() if suffix},
}  # fmt: skip


def parse_name(name: str) -> tuple[str, str]:
    """Photo and condition of a file name without its format's suffix.

    >>> parse_name("000000000071_2")
    ('000000000071', 'nonsalient')
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return name, _BY_SUFFIX[""]
    return match["photo"], _BY_SUFFIX[match["suffix"] or ""]


def condition_named(word: str) -> str | None:
    """The condition that a cell such as ``Non-salient``, ``2`` or the published Chinese word names."""
    return _WORDS.get(re.sub(r"[\s_-]", "", word).lower())


def short_name(photo: str) -> str:
    """The photo's name as tables of texts have it: a number loses its leading zeros."""
    return photo.lstrip("0") or "0" if photo.isascii() and photo.isdigit() else photo


@dataclass
class Texts:
    """Texts by photo and condition."""

    path: Path
    by_name: dict[tuple[str, str], str] = field(default_factory=dict)
    """Keys are the photo's `short_name` and the condition; no text is empty."""
    clashing: set[tuple[str, str]] = field(default_factory=set)
    """Keys that were given several different texts: none of them is used."""

    def add(self, name: str, text: str, condition: str | None = None) -> None:
        """A text under the name of a photo or of its file, with or without the condition's number.

        A condition of its own wins over the number in the name.
        """
        stem = name.strip()
        if PurePath(stem).suffix.lower() in IMAGE_SUFFIXES | {".mat"}:
            stem = stem[: -len(PurePath(stem).suffix)]
        photo, numbered = parse_name(stem)
        key = (short_name(photo), condition or numbered)
        if self.by_name.setdefault(key, text.strip()) != text.strip():
            self.clashing.add(key)

    def find(self, photo: str, condition: str, *, only_text: bool, problems: Problems) -> str:
        """The text of a photo under a condition, empty where there is none.

        Args:
            photo: name of the photo.
            condition: what its viewers were told.
            only_text: whether the photo has just one text: ``whole`` and ``general`` then mean the same.
            problems: gets a clash.
        """
        names = [condition]
        if only_text and condition in ("whole", "general"):
            names = [condition, "general" if condition == "whole" else "whole"]
        for name in names:
            key = (short_name(photo), name)
            if key in self.clashing:
                problems.add(f"pairs with several texts in {self.path.name}", f"{photo} {condition}")
                return ""
            if self.by_name.get(key):
                return self.by_name[key]
        return ""


def read_texts(path: Path, columns: Columns) -> Texts:
    """Read a table of texts.

    JSON: an object of texts by name, of objects of texts by condition by name, or a list of objects;
    ``.csv`` and ``.xlsx`` (every sheet that has the columns): a heading and a row for each text.

    Raises:
        DataError: the file is unreadable or has none of these forms, or a column is missing.
        MissingDependencyError: ``.xlsx`` without openpyxl.
    """
    texts = Texts(path)
    suffix = path.suffix.lower()
    if suffix == ".json":
        _add_json(texts, _json(path), columns)
    elif suffix == ".csv":
        _add_rows(texts, read_csv(path), columns, None)
    elif suffix == ".xlsx":
        sheets = _sheets(path)
        usable = {
            title: rows
            for title, rows in sheets.items()
            if rows and _missing_columns(rows[0], columns) is None
        }
        if not usable:
            raise DataError(
                f"{path} has no sheet with an image and a text column: found {_listed(sheets)}; name them with --image-column and --text-column"
            )
        for title, rows in usable.items():
            _add_rows(texts, rows, columns, condition_named(title))
    else:
        raise DataError(
            f"{path} is not a table of texts: {', '.join(TEXT_SUFFIXES)} were expected; save a spreadsheet as .xlsx or .csv"
        )
    if not texts.by_name:
        raise DataError(f"{path} holds no texts")
    return texts


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _add_json(texts: Texts, content: Any, columns: Columns) -> None:
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        _add_rows(texts, content, columns, None)
        return
    if not isinstance(content, dict):
        raise DataError(f"{texts.path} holds neither an object of texts by image name nor a list of objects")
    for name, value in content.items():
        if isinstance(value, Mapping) and all(condition_named(str(word)) for word in value):
            for word, text in value.items():
                texts.add(name, _cell(text), condition_named(str(word)))
        elif value is None or isinstance(value, str):
            texts.add(name, value or "")
        else:
            raise DataError(
                f"{texts.path}: {name!r} is {json.dumps(value)[:60]}, a text was expected, or an object of texts by condition"
            )


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Rows of a table by its heading, the delimiter (comma, semicolon or tabulator) found in that.

    Raises:
        DataError: the file is unreadable or no table.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}; save it in UTF-8") from error
    # Spreadsheet programs write semicolons where the comma is the decimal mark; a sniffer would be
    # misled by the commas of the texts, the heading is not.
    heading = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=heading.count)
    try:
        return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f"cannot read {path}: {error}; a table was expected") from error


def _sheets(path: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        import openpyxl  # noqa: PLC0415 - only .xlsx needs it
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{path} needs openpyxl, which is not installed: pip install openpyxl, or save the texts as .csv"
        ) from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        found: dict[str, list[dict[str, Any]]] = {}
        for sheet in book.worksheets:
            lines = sheet.iter_rows(values_only=True)
            heading = [_cell(cell) for cell in next(lines, ())]
            found[sheet.title] = [dict(zip(heading, line, strict=False)) for line in lines]
        book.close()
    except Exception as error:  # openpyxl lets through whatever zip and XML raise
        raise DataError(f"{path} is not a readable .xlsx file: {error}") from error
    return found


def _add_rows(
    texts: Texts, rows: Iterable[Mapping[str, Any]], columns: Columns, condition: str | None
) -> None:
    """Rows of one table; `condition` is that of a table without such a column."""
    rows = list(rows)
    missing = _missing_columns(rows[0] if rows else {}, columns)
    if missing is not None:
        raise DataError(f"{texts.path} {missing}")
    image = find_column(rows[0], columns.image, IMAGE_COLUMNS)
    text = find_column(rows[0], columns.text, _TEXT_COLUMNS)
    kind = find_column(rows[0], columns.condition, _CONDITION_COLUMNS)
    for row in rows:
        name = _cell(row.get(image or ""))
        if name:
            named = condition_named(_cell(row.get(kind))) if kind else None
            texts.add(name, _cell(row.get(text or "")), named or condition)


def _missing_columns(row: Mapping[str, Any], columns: Columns) -> str | None:
    """What a table lacks, as the end of a sentence; None if nothing."""
    for wanted, usual, option in (
        (columns.image, IMAGE_COLUMNS, "--image-column"),
        (columns.text, _TEXT_COLUMNS, "--text-column"),
        (columns.condition, _CONDITION_COLUMNS, "--condition-column"),
    ):
        optional = option == "--condition-column" and wanted is None
        if not optional and find_column(row, wanted, usual) is None:
            label = f"column {wanted!r}" if wanted else f"column like {usual[0]}"
            found = ", ".join(str(name) for name in row) or "no heading"
            return f"has no {label}: found {found}; name it with {option}"
    return None


def find_column(row: Mapping[str, Any], wanted: str | None, usual: tuple[str, ...]) -> str | None:
    """The wanted column of a row, or the first usual one: case, blanks and underscores do not count; None if absent."""
    if wanted is not None:
        return wanted if wanted in row else None
    simple = {simple_name(str(name)): name for name in reversed(list(row))}
    return next((simple[name] for name in usual if name in simple), None)


def simple_name(heading: str) -> str:
    """A heading as `find_column` compares it."""
    return heading.strip().lower().replace("_", "").replace(" ", "")


def _listed(sheets: Mapping[str, list[dict[str, Any]]]) -> str:
    return "; ".join(f"{title} ({', '.join(rows[0]) if rows else 'empty'})" for title, rows in sheets.items())


def _cell(value: Any) -> str:
    """A cell as text: spreadsheets have numbers where names are digits."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
