"""Anthropic tools and tool choice as those of Chat Completions (openai SDK, `ChatCompletionFunctionToolParam`)."""

import re
from collections.abc import Iterator
from typing import Any

from ccr_asgi.formats.fields import ARRAY, BOOLEAN, OBJECT, STRING, check, describe, optional, refuse, required
from ccr_asgi.formats.tool_names import PLACEHOLDER, ToolNames
from ccr_asgi.formats.tool_schemas import clean_parameters
from ccr_asgi.quirks import Quirks

_SERVER_TYPE = re.compile(r"_\d{8}$")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class Tools:
    """The tools of one request.

    Attributes:
        names: All tool names of the request on both sides.
        functions: What goes upstream as `tools`; empty if nothing is left.
        dropped: Anthropic's server tools that no other provider has, by their types.
    """

    def __init__(self, body: dict[str, Any], quirks: Quirks) -> None:
        """Read `tools`; raises RequestError for what is not of Anthropic's form."""
        self._quirks = quirks
        self.dropped: list[str] = []
        self._dropped_names: set[str] = set()
        custom: dict[str, tuple[dict[str, Any], str]] = {}
        for tool, path in self._custom(body):
            name = required(tool, "name", STRING, path)
            if name in custom:
                raise refuse(f"{path}.name", f"{describe(name)} for the second time", "a name for each tool")
            custom[name] = (tool, path)
        self._defined = frozenset(custom)
        self.names = ToolNames(custom)
        self.functions = [self._function(name, tool, path) for name, (tool, path) in custom.items()]

    def choice(self, body: dict[str, Any]) -> dict[str, Any]:
        """The fields `tool_choice` and `parallel_tool_calls`, if they are called for."""
        choice = optional(body, "tool_choice", OBJECT)
        if choice is None:
            return {}
        fields: dict[str, Any] = {}
        kind = required(choice, "type", STRING, "tool_choice")
        if kind == "tool":
            name = required(choice, "name", STRING, "tool_choice")
            if name not in self._defined | self._dropped_names:
                accepted = "the name of one of `tools`: " + (", ".join(sorted(self._defined)[:8]) or "there are none")
                raise refuse("tool_choice.name", describe(name), accepted)
            if name in self._defined:
                fields["tool_choice"] = {"type": "function", "function": {"name": self.names.upstream(name)}}
        elif kind in _CHOICES:
            fields["tool_choice"] = _CHOICES[kind]
        else:
            raise refuse("tool_choice.type", describe(kind), ", ".join([*_CHOICES, "tool"]))
        if optional(choice, "disable_parallel_tool_use", BOOLEAN, "tool_choice") and self._quirks.parallel_tool_calls:
            fields["parallel_tool_calls"] = False
        return fields if self.functions else {}

    def _custom(self, body: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
        """The client's own tools, each with its path; the others are remembered as dropped."""
        for index, element in enumerate(optional(body, "tools", ARRAY) or []):
            path = f"tools[{index}]"
            tool = check(element, OBJECT, path)
            kind = optional(tool, "type", STRING, path) or "custom"
            if kind == "custom":
                if tool.get("name") != PLACEHOLDER:
                    yield tool, path
            elif _SERVER_TYPE.search(kind):
                self.dropped.append(kind)
                self._dropped_names.add(optional(tool, "name", STRING, path) or "")
            else:
                raise refuse(
                    f"{path}.type", describe(kind), "'custom' or a dated server tool such as web_search_20250305"
                )

    def _function(self, name: str, tool: dict[str, Any], path: str) -> dict[str, Any]:
        function: dict[str, Any] = {"name": self.names.upstream(name)}
        if description := optional(tool, "description", STRING, path):
            function["description"] = description
        keywords = self._quirks.drop_schema_keywords
        function["parameters"] = clean_parameters(tool.get("input_schema"), f"{path}.input_schema", keywords)
        if self._quirks.strict is not None:
            function["strict"] = self._quirks.strict
        return {"type": "function", "function": function}
