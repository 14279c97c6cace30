"""The form that an answer shall have."""

from typing import Any

import pytest

from ccr_asgi.errors import RequestError
from ccr_asgi.formats.output_format import output_format
from ccr_asgi.quirks import Quirks

FORM = {"type": "json_schema", "schema": {"$schema": "x", "type": "array", "maxItems": 2}}
SCHEMA = {"type": "array", "maxItems": 2}
OTHER = {"type": "json_schema", "schema": {"type": "object"}}


@pytest.mark.parametrize(
    "body", [{}, {"output_config": None}, {"output_config": {}}, {"output_config": {"format": None}}]
)
def test_any_answer_will_do(body: dict[str, Any]) -> None:
    assert output_format(body, Quirks(strict=True)) is None


@pytest.mark.parametrize(
    "body",
    [
        {"output_config": {"format": FORM}},
        {"output_format": FORM},
        {"output_config": {"effort": "low"}, "output_format": FORM},
        {"output_config": {"format": FORM}, "output_format": OTHER},
    ],
)
def test_a_schema_is_asked_for(body: dict[str, Any]) -> None:
    assert output_format(body, Quirks()) == {"name": "output", "schema": SCHEMA}


@pytest.mark.parametrize("strict", [True, False])
def test_it_is_strict_as_the_provider_wants_it(strict: bool) -> None:
    found = output_format({"output_format": FORM}, Quirks(strict=strict))
    assert found == {"name": "output", "schema": SCHEMA, "strict": strict}


def test_keywords_that_the_provider_refuses_are_told_in_words() -> None:
    found = output_format({"output_format": FORM}, Quirks(drop_schema_keywords=("maxItems",)))
    assert found == {"name": "output", "schema": {"type": "array", "description": "(maxItems: 2)"}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"output_config": 5}, "output_config: found the number 5; accepted: an object."),
        ({"output_config": {"format": "json"}}, "output_config.format: found the string 'json'; accepted: an object."),
        ({"output_config": {"format": {}}}, "output_config.format.type: found nothing; accepted: a string."),
        ({"output_format": []}, "output_format: found an array; accepted: an object."),
        ({"output_format": {"type": "json"}}, "output_format.type: found the string 'json'; accepted: 'json_schema'."),
        ({"output_format": {"type": "xml"}}, "output_format.type: found the string 'xml'; accepted: 'json_schema'."),
        ({"output_format": {"type": "json_schema"}}, "output_format.schema: found nothing; accepted: an object."),
    ],
)
def test_what_is_not_of_the_form_is_refused(body: dict[str, Any], expected: str) -> None:
    with pytest.raises(RequestError) as caught:
        output_format(body, Quirks())
    assert caught.value.message == expected
