"""How a provider differs from plain Chat Completions, as data: the `quirks` key of a provider and its presets.

A preset is chosen by the provider's name, else by the host of its `baseUrl`; keys in the configuration win over it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Quirks:
    """What a converter does differently for one provider. Config keys are the camelCase forms.

    Attributes:
        drop: Top-level body fields that are removed last of all.
        rename: Top-level body fields, old name to new; applied before `set`.
        set: Top-level body fields that are set, whatever the client sent; applied before `drop`.
        max_tokens_field: Which field carries Anthropic's `max_tokens`.
        max_tokens_cap: The largest value sent there; None sends the client's own.
        drop_schema_keywords: JSON Schema keywords that the provider refuses in tool parameters; each one dropped is
            told to the model in the description beside it.
        parallel_tool_calls: The provider knows the `parallel_tool_calls` field.
        images: The model takes `image_url` parts; if not, an image becomes a placeholder text.
        pdf: The model takes PDFs as `file` parts; if not, a PDF becomes a placeholder text.
        strict: The one `strict` value put on every tool; None leaves it out.
        reasoning_effort: The provider takes `reasoning_effort`.
        efforts: Model name to the effort values that it takes; "*" speaks for all others.
        effort_off: Model name to the value that turns thinking off; a model not listed gets no field at all.
    """

    drop: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default=_EMPTY)
    set: Mapping[str, Any] = field(default=_EMPTY)
    max_tokens_field: str = "max_completion_tokens"
    max_tokens_cap: int | None = None
    drop_schema_keywords: tuple[str, ...] = ()
    parallel_tool_calls: bool = True
    images: bool = True
    pdf: bool = False
    strict: bool | None = None
    reasoning_effort: bool = True
    efforts: Mapping[str, tuple[str, ...]] = field(default=_EMPTY)
    effort_off: Mapping[str, str] = field(default=_EMPTY)
