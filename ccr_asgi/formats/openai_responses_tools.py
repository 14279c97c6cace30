"""Tools and tool choice as those of the Responses API (openai SDK, `FunctionToolParam`, `WebSearchToolParam`)."""

from typing import Any

from ccr_asgi.formats.fields import ARRAY, OBJECT, optional
from ccr_asgi.formats.tool_schemas import complete_schema
from ccr_asgi.formats.tools import Choice, Function, RequestTools

WEB_SEARCH = "web_search"

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_LOCATION = ("type", "city", "region", "country", "timezone")


def function_tools(tools: RequestTools, strict: bool | None) -> list[dict[str, Any]]:
    """The tools that the client runs."""
    return [_function(function, strict or False) for function in tools.functions]


def hosted_tools(tools: RequestTools) -> list[dict[str, Any]]:
    """The tools that OpenAI runs in the place of Anthropic's: the web search."""
    return [_web_search(tool) for tool in tools.server_tools if tool["type"].startswith(f"{WEB_SEARCH}_")]


def tools_without_counterpart(tools: RequestTools) -> list[str]:
    """The types of Anthropic's server tools that OpenAI has nothing for."""
    return [tool["type"] for tool in tools.server_tools if not tool["type"].startswith(f"{WEB_SEARCH}_")]


def tool_choice(choice: Choice | None) -> str | dict[str, str]:
    """The value of `tool_choice`. A server tool cannot be demanded by name; some tool can."""
    if choice is None:
        return "auto"
    if choice.function is not None:
        return {"type": "function", "name": choice.function}
    return _CHOICES.get(choice.kind, "required")


def _function(function: Function, strict: bool) -> dict[str, Any]:
    described: dict[str, Any] = {"type": "function", "name": function.name}
    if function.description is not None:
        described["description"] = function.description
    return {**described, "strict": strict, "parameters": complete_schema(function.parameters, f"tool {function.name}")}


def _web_search(tool: dict[str, Any]) -> dict[str, Any]:
    hosted: dict[str, Any] = {"type": WEB_SEARCH}
    if domains := optional(tool, "allowed_domains", ARRAY, "tools"):
        hosted["filters"] = {"allowed_domains": domains}
    if location := optional(tool, "user_location", OBJECT, "tools"):
        hosted["user_location"] = {key: location[key] for key in _LOCATION if key in location}
    return hosted
