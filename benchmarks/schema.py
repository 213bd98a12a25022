"""A checker for the part of JSON Schema that the benchmarks' schema uses, so that no package is needed."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["problems"]

_KINDS: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ),
}
_NOTES = {"$schema", "$id", "$defs", "title", "description"}
_KNOWN = _NOTES | {
    "$ref", "type", "enum", "const", "minimum", "minLength", "pattern", "minItems", "items",
    "required", "properties", "additionalProperties",
}  # fmt: skip

_WHOLE = "the record"


def problems(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """What breaks the schema, a line each, with its place.

    >>> problems({"a": [1, "b"]}, {"properties": {"a": {"items": {"type": "integer"}}}})
    ["a[1] is 'b': integer was expected"]

    Raises:
        ValueError: the schema has a keyword that this checker does not know.
    """
    found: list[str] = []
    _check(value, schema, schema, "", found)
    return found


def _check(
    value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], place: str, found: list[str]
) -> None:
    if unknown := set(schema) - _KNOWN:
        raise ValueError(f"the schema uses {min(unknown)}, which is not known here")
    if "$ref" in schema:
        _check(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, place, found)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_KINDS[kind](value) for kind in kinds):
        found.append(f"{place or _WHOLE} is {_shown(value)}: {' or '.join(kinds)} was expected")
        return
    found += [f"{place or _WHOLE} {wrong}" for wrong in _wrong(value, schema)]
    if isinstance(value, list):
        for number, item in enumerate(value):
            _check(item, schema.get("items", {}), root, f"{place}[{number}]", found)
    elif isinstance(value, dict):
        _check_object(value, schema, root, place, found)


def _wrong(value: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a value itself, not with what is in it."""
    if "const" in schema and value != schema["const"]:
        yield f"is {_shown(value)}: {schema['const']!r} was expected"
    if "enum" in schema and value not in schema["enum"]:
        yield f"is {_shown(value)}: one of {', '.join(map(str, schema['enum']))} was expected"
    if _KINDS["number"](value):
        if value < schema.get("minimum", -math.inf):
            yield f"is {value}: at least {schema['minimum']} was expected"
    elif isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            yield f"is {_shown(value)}: {schema['minLength']} letters or more were expected"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"is {_shown(value)}: {schema['pattern']} was expected"
    elif isinstance(value, list) and len(value) < schema.get("minItems", 0):
        yield f"has {len(value)} items: at least {schema['minItems']} were expected"


def _check_object(
    value: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], place: str, found: list[str]
) -> None:
    where = place or _WHOLE
    found += [f"{where} has no {name}" for name in schema.get("required", []) if name not in value]
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for name, item in value.items():
        inner = f"{place}.{name}" if place else name
        if name in known:
            _check(item, known[name], root, inner, found)
        elif others is False:
            found.append(f"{where} has {name}, which is unknown")
        elif others is not True:
            _check(item, others, root, inner, found)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
