"""Tool schemas as providers take them."""

from typing import Any

import pytest

from ccr_asgi.errors import RequestError
from ccr_asgi.formats.tool_schemas import MAX_DEPTH, clean_parameters, clean_schema, complete_schema

EMPTY = {"type": "object", "properties": {}}


@pytest.mark.parametrize("schema", [None, {}, {"type": "object"}, {"type": None, "properties": None}, EMPTY])
def test_type_and_properties_are_ensured(schema: Any) -> None:
    assert clean_parameters(schema, "s") == EMPTY


def test_all_else_stays_as_it_is() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {}, "n": {"type": "integer", "maximum": 9007199254740991, "default": None}},
        "required": ["a"],
        "additionalProperties": False,
        "allOf": [{"if": {}}],
        "$defs": {"x": {"$schema": "kept, being a definition's own"}},
    }
    before = repr(schema)
    assert clean_parameters({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, "s") == schema
    assert repr(schema) == before


def test_a_response_schema_needs_no_properties() -> None:
    assert clean_schema({"$schema": "x", "type": "array"}, "s") == {"type": "array"}


DROPPED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "in a property, beside a description": (
        {"properties": {"a": {"type": "string", "pattern": "^ä", "format": "uri", "description": "A link."}}},
        {"properties": {"a": {"type": "string", "description": 'A link. (pattern: "^ä"; format: "uri")'}}},
    ),
    "but not a property of that name": (
        {"properties": {"pattern": {"type": "string"}, "format": True}, "required": ["pattern"]},
        {"properties": {"pattern": {"type": "string"}, "format": True}, "required": ["pattern"]},
    ),
    "but not in plain values": (
        {"properties": {"a": {"default": {"pattern": "x"}, "enum": [{"pattern": "x"}], "const": {"format": 1}}}},
        {"properties": {"a": {"default": {"pattern": "x"}, "enum": [{"pattern": "x"}], "const": {"format": 1}}}},
    ),
    "in items, one and many": (
        {"items": {"pattern": "x"}, "prefixItems": [{"format": "y"}, False], "anyOf": [{"items": [{"pattern": "z"}]}]},
        {
            "items": {"description": '(pattern: "x")'},
            "prefixItems": [{"description": '(format: "y")'}, False],
            "anyOf": [{"items": [{"description": '(pattern: "z")'}]}],
        },
    ),
    "in definitions and conditions": (
        {"$defs": {"d": {"pattern": "x"}}, "if": {"format": "y"}, "additionalProperties": {"pattern": "z"}},
        {
            "$defs": {"d": {"description": '(pattern: "x")'}},
            "if": {"description": '(format: "y")'},
            "additionalProperties": {"description": '(pattern: "z")'},
        },
    ),
    "beside what is no description": (
        {"properties": {"a": {"pattern": "x", "description": 5}}},
        {"properties": {"a": {"description": '(pattern: "x")'}}},
    ),
    "even where keywords hold odd values": (
        {"properties": {"a": {"pattern": {"b": [1]}}}, "$defs": 5, "allOf": 6, "not": 7},
        {"properties": {"a": {"description": '(pattern: {"b": [1]})'}}, "$defs": 5, "allOf": 6, "not": 7},
    ),
}


@pytest.mark.parametrize(("schema", "expected"), DROPPED.values(), ids=DROPPED.keys())
def test_keywords_are_dropped_and_told(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    assert clean_schema(schema, "s", ("pattern", "format")) == expected


def test_a_schema_too_deep_to_search_is_refused() -> None:
    schema: dict[str, Any] = {"pattern": "x"}
    for _ in range(MAX_DEPTH):
        schema = {"items": schema}
    assert clean_schema(schema, "s", ("pattern",))
    with pytest.raises(RequestError, match=r"^s: found a schema nested more than 100 deep; accepted: a shallower one"):
        clean_schema({"items": schema}, "s", ("pattern",))


COMPLETED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "an object": ({"type": "object"}, {"type": "object", "properties": {}}),
    "an array": ({"type": "array"}, {"type": "array", "items": {}}),
    "another type": ({"type": "string"}, {"type": "string"}),
    "no type": ({}, {}),
    "what is there already": (
        {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}},
        {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}},
    ),
    "what stands within": (
        {"anyOf": [{"type": "array", "items": {"type": "object"}}], "$defs": {"d": {"type": "array"}}},
        {
            "anyOf": [{"type": "array", "items": {"type": "object", "properties": {}}}],
            "$defs": {"d": {"type": "array", "items": {}}},
        },
    ),
}


@pytest.mark.parametrize(("schema", "expected"), COMPLETED.values(), ids=COMPLETED.keys())
def test_objects_and_arrays_are_completed(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    before = repr(schema)
    assert complete_schema(schema, "s") == expected
    assert repr(schema) == before


def test_a_schema_too_deep_to_complete_is_refused() -> None:
    schema: dict[str, Any] = {"type": "array"}
    for _ in range(MAX_DEPTH):
        schema = {"not": schema}
    assert complete_schema(schema, "s")
    with pytest.raises(RequestError, match=r"^s: found a schema nested more than 100 deep; accepted: a shallower one"):
        complete_schema({"not": schema}, "s")
