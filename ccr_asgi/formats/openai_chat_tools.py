"""Tools and tool choice as those of Chat Completions (openai SDK, `ChatCompletionFunctionToolParam`)."""

from typing import Any

from ccr_asgi.formats.tools import Choice, Function, RequestTools
from ccr_asgi.quirks import Quirks

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def tool_fields(tools: RequestTools, choice: Choice | None, quirks: Quirks) -> dict[str, Any]:
    """The fields `tools`, `tool_choice` and `parallel_tool_calls`, as far as they are called for.

    Chat Completions has no server tools, so a demand for one is left out with it.
    """
    if not tools.functions:
        return {}
    fields: dict[str, Any] = {"tools": [_function(function, quirks.strict) for function in tools.functions]}
    if choice is None:
        return fields
    if choice.kind in _CHOICES:
        fields["tool_choice"] = _CHOICES[choice.kind]
    elif choice.function is not None:
        fields["tool_choice"] = {"type": "function", "function": {"name": choice.function}}
    if not choice.parallel and quirks.parallel_tool_calls:
        fields["parallel_tool_calls"] = False
    return fields


def _function(function: Function, strict: bool | None) -> dict[str, Any]:
    described: dict[str, Any] = {"name": function.name}
    if function.description is not None:
        described["description"] = function.description
    described["parameters"] = function.parameters
    if strict is not None:
        described["strict"] = strict
    return {"type": "function", "function": described}
