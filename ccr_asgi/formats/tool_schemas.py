"""Tool input schemas as a provider takes them; the same for Chat Completions and Responses."""

import json
from collections.abc import Callable, Collection
from typing import Any

from ccr_asgi.formats.fields import OBJECT, check, describe, refuse

Schema = dict[str, Any]

MAX_DEPTH = 100
"""Deeper than any schema is; a guard for the recursion."""

_ONE = frozenset(
    [
        *("additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not"),
        *("propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"),
    ]
)
_MANY = frozenset(["allOf", "anyOf", "items", "oneOf", "prefixItems"])
_NAMED = frozenset(["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"])
"""Keywords that hold a schema, an array of schemas, and schemas by a name of the author's (JSON Schema 2020-12, with
the older forms). Everything else holds plain values, in which a keyword's name means nothing."""


def clean_parameters(schema: object, path: str, dropped_keywords: Collection[str] = ()) -> Schema:
    """A tool's `input_schema`, which stands at `path`, as the `parameters` of a function.

    `type: object` and `properties` are ensured (null or nothing at all is a tool without parameters), and it is
    cleaned as `clean_schema` does.

    Raises:
        RequestError: The schema or its `properties` is no object, or it is nested too deeply to be searched.
    """
    if not isinstance(schema, dict | None):
        raise refuse(path, describe(schema), "a JSON schema object")
    complete = {**(schema or {}), "type": "object"}
    if complete.get("properties") is None:
        complete["properties"] = {}
    check(complete["properties"], OBJECT, f"{path}.properties")
    return clean_schema(complete, path, dropped_keywords)


def clean_schema(schema: Schema, path: str, dropped_keywords: Collection[str] = ()) -> Schema:
    """A schema without `$schema` and `dropped_keywords`, and otherwise unchanged.

    What a dropped keyword said is told in the description beside it.

    Raises:
        RequestError: It is nested too deeply to be searched for keywords.
    """
    cleaned = {key: value for key, value in schema.items() if key != "$schema"}
    return _without(cleaned, frozenset(dropped_keywords), path, 0) if dropped_keywords else cleaned


def complete_schema(schema: Schema, path: str) -> Schema:
    """A schema whose objects all have `properties` and whose arrays have `items`, empty where they had none.

    OpenAI's function tools are refused without them, at any depth; for JSON Schema it means the same.

    Raises:
        RequestError: It is nested too deeply.
    """
    return _completed(schema, path, 0)


def _completed(schema: Schema, path: str, depth: int) -> Schema:
    completed = _mapped(schema, lambda inner: _completed(inner, path, depth + 1), path, depth)
    if completed.get("type") == "object":
        completed.setdefault("properties", {})
    if completed.get("type") == "array":
        completed.setdefault("items", {})
    return completed


def _mapped(schema: Schema, change: Callable[[Schema], Schema], path: str, depth: int) -> Schema:
    """`schema` with `change` made to every schema that stands directly in it."""
    if depth > MAX_DEPTH:
        raise refuse(path, f"a schema nested more than {MAX_DEPTH} deep", "a shallower one")

    def inner(value: Any) -> Any:
        return change(value) if isinstance(value, dict) else value

    mapped: Schema = {}
    for key, value in schema.items():
        if key in _NAMED and isinstance(value, dict):
            mapped[key] = {name: inner(subschema) for name, subschema in value.items()}
        elif key in _MANY and isinstance(value, list):
            mapped[key] = [inner(subschema) for subschema in value]
        else:
            mapped[key] = inner(value) if key in _ONE else value
    return mapped


def _without(schema: Schema, keywords: frozenset[str], path: str, depth: int) -> Schema:
    """`schema` without `keywords` at any depth; a property that merely has a keyword's name is kept."""
    notes = [f"{key}: {json.dumps(schema[key], ensure_ascii=False)}" for key in schema if key in keywords]
    rest = {key: value for key, value in schema.items() if key not in keywords}
    kept = _mapped(rest, lambda inner: _without(inner, keywords, path, depth + 1), path, depth)
    return _describe_dropped(kept, notes)


def _describe_dropped(schema: Schema, notes: list[str]) -> Schema:
    if notes:
        described = schema.get("description")
        before = f"{described} " if isinstance(described, str) and described else ""
        schema["description"] = f"{before}({'; '.join(notes)})"
    return schema
