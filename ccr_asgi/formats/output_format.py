"""The form that a client asks the answer to have, for OpenAI's APIs."""

from typing import Any

from ccr_asgi.formats.fields import OBJECT, STRING, describe, join, optional, refuse, required
from ccr_asgi.formats.tool_schemas import clean_schema
from ccr_asgi.quirks import Quirks


def output_format(body: dict[str, Any], quirks: Quirks) -> dict[str, Any] | None:
    """The JSON schema of `output_config.format`, or of its older name, the top-level `output_format`.

    It has the members `name`, `schema` and, if the provider wants it, `strict`; None if any answer will do.

    Raises:
        RequestError: It is not of Anthropic's form.
    """
    output_config = optional(body, "output_config", OBJECT) or {}
    path = "output_config.format"
    output = optional(output_config, "format", OBJECT, "output_config")
    if output is None:
        path = "output_format"
        output = optional(body, "output_format", OBJECT)
    if output is None:
        return None
    kind = required(output, "type", STRING, path)
    if kind != "json_schema":
        raise refuse(join(path, "type"), describe(kind), "'json_schema'")
    schema_path = join(path, "schema")
    schema = clean_schema(required(output, "schema", OBJECT, path), schema_path, quirks.drop_schema_keywords)
    described: dict[str, Any] = {"name": "output", "schema": schema}
    if quirks.strict is not None:
        described["strict"] = quirks.strict
    return described
