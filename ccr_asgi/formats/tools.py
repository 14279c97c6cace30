"""The tools of a client's request and its choice among them, read once for every wire format."""

import re
from dataclasses import dataclass
from typing import Any

from ccr_asgi.formats.fields import ARRAY, BOOLEAN, OBJECT, STRING, check, describe, optional, refuse, required
from ccr_asgi.formats.tool_names import PLACEHOLDER, ToolNames
from ccr_asgi.formats.tool_schemas import clean_parameters

_SERVER_TYPE = re.compile(r"_\d{8}$|^tool_search_tool_(bm25|regex)$|^mcp_toolset$")
"""Anthropic dates the types of its tools, but for these."""
_CHOICES = ("auto", "any", "none", "tool")


@dataclass(frozen=True, slots=True)
class Function:
    """A tool that the client runs.

    Attributes:
        name: The provider's name for it.
        description: None if the client gave none.
        parameters: The JSON schema of its input.
    """

    name: str
    description: str | None
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """What the client demands of the model.

    Attributes:
        kind: auto, any, none or tool.
        function: The provider's name of the demanded tool; None if it is a server tool, or no tool is demanded.
        parallel: The model may make several calls at once.
    """

    kind: str = "auto"
    function: str | None = None
    parallel: bool = True


class RequestTools:
    """The tools of one request.

    Attributes:
        names: All tool names of the request on both sides.
        functions: The client's own tools.
        server_tools: Anthropic's server tools, as the client described them.
    """

    def __init__(self, body: dict[str, Any], dropped_keywords: tuple[str, ...] = ()) -> None:
        """Read `tools`; raises RequestError for what is not of Anthropic's form."""
        self.server_tools: list[dict[str, Any]] = []
        custom: dict[str, tuple[dict[str, Any], str]] = {}
        for index, element in enumerate(optional(body, "tools", ARRAY) or []):
            path = f"tools[{index}]"
            tool = check(element, OBJECT, path)
            if self._is_custom(tool, path):
                name = required(tool, "name", STRING, path)
                if name in custom:
                    raise refuse(f"{path}.name", f"{describe(name)} for the second time", "a name for each tool")
                custom[name] = (tool, path)
        self._defined = frozenset(custom)
        self.names = ToolNames(custom)
        self.functions = [
            Function(
                name=self.names.upstream(name),
                description=optional(tool, "description", STRING, path) or None,
                parameters=clean_parameters(tool.get("input_schema"), f"{path}.input_schema", dropped_keywords),
            )
            for name, (tool, path) in custom.items()
        ]

    def choice(self, body: dict[str, Any]) -> Choice | None:
        """What `tool_choice` demands; None if there is none.

        Raises:
            RequestError: It is not of Anthropic's form, or names a tool that is not there.
        """
        choice = optional(body, "tool_choice", OBJECT)
        if choice is None:
            return None
        kind = required(choice, "type", STRING, "tool_choice")
        if kind not in _CHOICES:
            raise refuse("tool_choice.type", describe(kind), ", ".join(_CHOICES))
        function = self._demanded(choice) if kind == "tool" else None
        parallel = not optional(choice, "disable_parallel_tool_use", BOOLEAN, "tool_choice")
        return Choice(kind, function, parallel)

    def _is_custom(self, tool: dict[str, Any], path: str) -> bool:
        kind = optional(tool, "type", STRING, path) or "custom"
        if kind == "custom":
            return tool.get("name") != PLACEHOLDER
        if not _SERVER_TYPE.search(kind):
            raise refuse(f"{path}.type", describe(kind), "'custom' or a server tool such as web_search_20250305")
        optional(tool, "name", STRING, path)
        self.server_tools.append(tool)
        return False

    def _demanded(self, choice: dict[str, Any]) -> str | None:
        name = required(choice, "name", STRING, "tool_choice")
        if name in self._defined:
            return self.names.upstream(name)
        if any(tool.get("name") == name for tool in self.server_tools):
            return None
        accepted = "the name of one of `tools`: " + (", ".join(sorted(self._defined)[:8]) or "there are none")
        raise refuse("tool_choice.name", describe(name), accepted)
