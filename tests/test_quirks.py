"""Presets, and quirks from a configuration."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi.quirks import EFFORTS, PRESETS, Quirks, for_model, preset_for, quirks_from_mapping


@pytest.mark.parametrize(
    ("name", "base_url", "expected"),
    [
        ("cerebras", "http://127.0.0.1:9/v1/chat/completions", "cerebras"),
        ("Cerebras", "", "cerebras"),
        ("fast", "https://api.cerebras.ai/v1/chat/completions", "cerebras"),
        ("gpt", "https://api.openai.com/v1/chat/completions", "openai"),
        ("any", "https://openrouter.ai/api/v1/chat/completions", "openrouter"),
        ("local", "http://localhost:11434/v1/chat/completions", "ollama"),
        ("cloud", "https://ollama.com/v1/chat/completions", "ollama"),
        ("openrouter", "https://api.openai.com/v1/chat/completions", "openrouter"),
    ],
)
def test_a_preset_is_chosen_by_name_else_by_host(name: str, base_url: str, expected: str) -> None:
    assert preset_for(name, base_url) is PRESETS[expected]


@pytest.mark.parametrize(
    "base_url",
    [
        "https://llm.example.test/v1",
        "https://notopenai.com/v1",
        "https://openai.com.example.test/",
        "",
        "http://h:port/",
        "[",
    ],
)
def test_any_other_provider_is_plain(base_url: str) -> None:
    assert preset_for("mine", base_url) == Quirks()


def test_presets_name_only_levels_that_exist() -> None:
    for preset in PRESETS.values():
        assert {level for levels in preset.efforts.values() for level in levels} <= set(EFFORTS)
        assert set(preset.effort_off.values()) <= set(EFFORTS)


@pytest.mark.parametrize(("model", "expected"), [("a", 1), ("a-1", 2), ("a-1-x", 3), ("b", 4), ("odd[1]", 5)])
def test_the_longest_pattern_speaks_for_a_model(model: str, expected: int) -> None:
    assert for_model({"*": 4, "a-*": 2, "a": 1, "a-1-*": 3, "odd[1]": 5}, model, 0) == expected


def test_a_model_that_no_entry_speaks_for_has_the_default() -> None:
    assert for_model({"a*": 1}, "b", 0) == 0


@pytest.mark.parametrize(
    ("model", "images", "pdf"),
    [("gpt-oss-120b", False, False), ("zai-glm-4.7", False, False), ("qwen-3.8-27b", True, False)],
)
def test_what_models_of_cerebras_take(model: str, images: bool, pdf: bool) -> None:
    assert PRESETS["cerebras"].takes_images(model) is images
    assert PRESETS["cerebras"].takes_pdf(model) is pdf


READ: dict[str, tuple[dict[str, Any], Quirks]] = {
    "nothing": ({}, Quirks()),
    "lists": ({"drop": ["a"], "dropSchemaKeywords": []}, Quirks(drop=("a",))),
    "tables": ({"rename": {"a": "b"}, "set": {"c": [1]}}, Quirks(rename={"a": "b"}, set={"c": [1]})),
    "headers": ({"headers": {"X-Title": "mine"}}, Quirks(headers={"X-Title": "mine"})),
    "tokens": (
        {"maxTokensField": "max_tokens", "maxTokensCap": 8192},
        Quirks(max_tokens_field="max_tokens", max_tokens_cap=8192),
    ),
    "flags": (
        {"parallelToolCalls": False, "reasoningEffort": False, "strict": False},
        Quirks(parallel_tool_calls=False, reasoning_effort=False, strict=False),
    ),
    "one flag for all models": ({"images": False, "pdf": True}, Quirks(images={"*": False}, pdf={"*": True})),
    "flags by model": ({"images": {"a": False}}, Quirks(images={"a": False})),
    "efforts": (
        {"efforts": {"a": ["low", "max"], "b": []}, "effortOff": {"a": "none"}},
        Quirks(efforts={"a": ("low", "max"), "b": ()}, effort_off={"a": "none"}),
    ),
}


@pytest.mark.parametrize(("mapping", "expected"), READ.values(), ids=READ.keys())
def test_keys_of_a_configuration(mapping: dict[str, Any], expected: Quirks) -> None:
    assert quirks_from_mapping(Quirks(), mapping) == expected


def test_a_configuration_wins_over_a_preset() -> None:
    preset = Quirks(drop=("a",), max_tokens_cap=9, strict=False, set={"x": 1, "y": 2}, images={"m": False})
    found = quirks_from_mapping(preset, {"drop": ["b"], "maxTokensCap": None, "strict": None, "set": {"y": 3, "z": 4}})
    assert found == Quirks(drop=("b",), set={"x": 1, "y": 3, "z": 4}, images={"m": False})
    assert quirks_from_mapping(preset, {"images": {"n": True}}).images == {"m": False, "n": True}
    assert quirks_from_mapping(preset, {"images": True}).images == {"*": True}
    assert quirks_from_mapping(preset, {}) == preset


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"dorp": []}, "dorp: there is no such key; accepted: drop, rename, set, headers, maxTokensField, maxTokensCap, "),
    ({"drop": "a"}, 'drop: found "a"; accepted: an array of names'),
    ({"drop": [""]}, 'drop: found [""]; accepted: an array of names'),
    ({"rename": {"a": 1}}, 'rename: found {"a": 1}; accepted: an object of old and new field names'),
    ({"set": []}, "set: found []; accepted: an object of field names and their values"),
    ({"maxTokensField": ""}, 'maxTokensField: found ""; accepted: a field name'),
    ({"maxTokensCap": 0}, "maxTokensCap: found 0; accepted: a whole number of 1 or more, or null"),
    ({"maxTokensCap": True}, "maxTokensCap: found true; accepted: a whole number"),
    ({"parallelToolCalls": 1}, "parallelToolCalls: found 1; accepted: true or false"),
    ({"images": "no"}, 'images: found "no"; accepted: true, false, or an object of model names and true or false'),
    ({"pdf": {"m": 1}}, 'pdf: found {"m": 1}; accepted: true, false, or an object'),
    ({"strict": "x" * 80}, f'strict: found "{"x" * 59}…; accepted: true, false or null'),
    (
        {"efforts": {"m": ["hard"]}},
        'efforts: found {"m": ["hard"]}; accepted: an object of model names and arrays of: none',
    ),
    ({"effortOff": {"m": []}}, 'effortOff: found {"m": []}; accepted: an object of model names and one of: none, '),
]


@pytest.mark.parametrize(("mapping", "expected"), WRONG, ids=[next(iter(mapping)) for mapping, _ in WRONG])
def test_wrong_values_are_refused(mapping: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match="accepted") as caught:
        quirks_from_mapping(Quirks(), mapping)
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    "headers", [{"X": "hidden\r\nY: 1"}, {"X": 5, "Y": "hidden"}, {"X Y": "hidden"}, {"X": "hidden é"}]
)
def test_wrong_headers_are_refused_without_showing_them(headers: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"^headers: found other values; accepted: an object of header names"
    ) as caught:
        quirks_from_mapping(Quirks(), {"headers": headers})
    assert "hidden" not in str(caught.value)


def test_every_key_and_every_preset_has_a_row_in_the_docs() -> None:
    docs = (Path(__file__).parent.parent / "docs" / "wire-formats.md").read_text("utf-8")
    keys = [f"| `{to_camel_case(entry.name)}` |" for entry in fields(Quirks)]
    presets = [f"| `{name}` | `" for name in PRESETS]
    assert [row for row in (*keys, *presets) if row not in docs] == []


def test_the_docs_tell_what_each_preset_sets() -> None:
    docs = (Path(__file__).parent.parent / "docs" / "wire-formats.md").read_text("utf-8")
    _, *sections = docs.partition("### Presets")[2].split("\n| `")
    for section in sections:
        preset = PRESETS[section.partition("`")[0]]
        changed = {
            to_camel_case(e.name) for e in fields(Quirks) if getattr(preset, e.name) != getattr(Quirks(), e.name)
        }
        assert {key for key in changed if f"`{key}" not in section} == set()


def to_camel_case(attribute: str) -> str:
    first, *others = attribute.split("_")
    return first + "".join(map(str.capitalize, others))


def test_headers_are_never_shown() -> None:
    assert "hidden" not in repr(Quirks(headers={"X": "hidden"}))
