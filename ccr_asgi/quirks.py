"""How a provider differs from plain Chat Completions, as data: the `quirks` key of a provider and its presets.

A preset is chosen by the provider's name, else by the host of its `baseUrl`; keys in the configuration win over it.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

LANES = ("auto", "full", "lite")
VERBOSITIES = ("low", "medium", "high")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""The values of `reasoning_effort`, rising (openai SDK, `ReasoningEffort`)."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """What a converter does differently for one provider. Config keys are the camelCase forms.

    Tables by model have model names or patterns (`gpt-4*`) as keys; see `for_model`.

    Attributes:
        drop: Top-level body fields that are removed last of all.
        rename: Top-level body fields, old name to new; applied before `set`.
        set: Top-level body fields that are set, whatever the client sent; applied before `drop`.
        headers: Extra request headers; never shown by `repr`.
        max_tokens_field: Which field carries Anthropic's `max_tokens`.
        max_tokens_cap: The largest value sent there; None sends the client's own.
        drop_schema_keywords: JSON Schema keywords that the provider refuses in tool parameters; each one dropped is
            told to the model in the description beside it.
        parallel_tool_calls: The provider knows the `parallel_tool_calls` field.
        images: By model, whether it takes `image_url` parts; if not, an image becomes a placeholder text.
        pdf: By model, whether it takes PDFs as `file` parts; if not, a PDF becomes a placeholder text.
        strict: The one `strict` value put on every tool and on a response format; None leaves it out.
        reasoning_effort: The provider takes `reasoning_effort`.
        efforts: By model, the effort values that it takes; an empty list sends none. Unlisted: low, medium, high.
        effort_off: By model, the value that turns thinking off; a model not listed gets no field at all.
        verbosity: By model, the `text.verbosity` of a Responses request; a model not listed gets none.
        lane: How a Responses body is written: `full`, `lite`, or `auto`, which goes by the model's name and changes
            over when the provider says so (docs/wire-formats.md).
    """

    drop: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    set: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    max_tokens_field: str = "max_completion_tokens"
    max_tokens_cap: int | None = None
    drop_schema_keywords: tuple[str, ...] = ()
    parallel_tool_calls: bool = True
    images: Mapping[str, bool] = field(default_factory=dict)
    pdf: Mapping[str, bool] = field(default_factory=dict)
    strict: bool | None = None
    reasoning_effort: bool = True
    efforts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    effort_off: Mapping[str, str] = field(default_factory=dict)
    verbosity: Mapping[str, str] = field(default_factory=dict)
    lane: str = "full"

    def takes_images(self, model: str) -> bool:
        """Whether `model` sees images; yes, unless something says no."""
        return for_model(self.images, model, True)

    def takes_pdf(self, model: str) -> bool:
        """Whether `model` can be given PDFs; no, unless something says yes."""
        return for_model(self.pdf, model, False)

    def edited(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A converted body with `rename`, `set` and `drop` carried out."""
        renamed = {self.rename.get(key, key): value for key, value in body.items()}
        return {key: value for key, value in {**renamed, **self.set}.items() if key not in self.drop}


def for_model(table: Mapping[str, T], model: str, default: T) -> T:
    """The entry for `model`: its own name's, else that of the longest pattern that fits, else `default`."""
    if model in table:
        return table[model]
    fitting = [pattern for pattern in table if fnmatchcase(model, pattern)]
    return table[max(fitting, key=len)] if fitting else default


PRESETS: Mapping[str, Quirks] = {
    # The SDK's types (cerebras-cloud-sdk 1.91): max_completion_tokens, reasoning_effort none|low|medium|high, no file
    # parts. A mix of `strict` values is a 422 and some models refuse true (RooCodeInc/Roo-Code#10334,
    # livekit/agents#3134), so every tool says false. `parallel_tool_calls: false` is a 400 (agno-agi/agno#4508). The
    # requested maximum counts against the rate limit before anything is generated (cline/cline#7881). gpt-oss cannot
    # stop thinking; the first models there that see images came in mid 2026 (charmbracelet/catwalk#567).
    "cerebras": Quirks(
        max_tokens_cap=16_384,
        parallel_tool_calls=False,
        strict=False,
        images={"gpt-oss-120b": False, "zai-glm-4*": False, "qwen-3-*": False, "llama*": False},
        efforts={"qwen-3-*instruct*": (), "qwen-3-coder*": (), "llama*": ()},
        effort_off={"zai-glm-4*": "none", "qwen-3.8*": "none"},
    ),
    # The SDK's types: `file` parts. Models before the reasoning ones refuse `reasoning_effort`.
    "openai": Quirks(pdf={"*": True}, efforts={"gpt-3*": (), "gpt-4*": (), "chatgpt-4o*": ()}),
    # openrouter.ai/docs: `max_tokens` is its name for the limit, and its file parser takes PDFs for any model.
    "openrouter": Quirks(max_tokens_field="max_tokens", pdf={"*": True}),
    # docs.ollama.com/api/openai-compatibility: `max_tokens`; neither `parallel_tool_calls` nor file parts are listed.
    # A model that cannot think refuses a request to do so, and most of what people run cannot.
    "ollama": Quirks(max_tokens_field="max_tokens", parallel_tool_calls=False, reasoning_effort=False),
    # The bundled catalogue of the Codex CLI 0.169.0: efforts low to max, verbosity low, no way not to think. Its older
    # names knew less: gpt-5.1-codex no xhigh, and none of that line any verbosity but its own.
    "codex": Quirks(
        pdf={"*": True},
        efforts={
            "*": ("low", "medium", "high", "xhigh", "max"),
            "gpt-5.2*": ("low", "medium", "high", "xhigh"),
            "gpt-5.1*": ("low", "medium", "high"),
            "gpt-5.1-codex-max*": ("low", "medium", "high", "xhigh"),
            "gpt-5.1-codex-mini*": ("medium", "high"),
            "gpt-5-*": ("low", "medium", "high"),
        },
        effort_off={"*": "low", "gpt-5.1-codex-mini*": "medium"},
        verbosity={"gpt-6*": "low", "gpt-5.5*": "low", "gpt-5.6*": "low"},
        lane="auto",
    ),
}
"""What is known of providers, by the name that people give them; where from is said beside each."""

_HOSTS: Mapping[str, str] = {
    "cerebras.ai": "cerebras",
    "openai.com": "openai",
    "openrouter.ai": "openrouter",
    "ollama.com": "ollama",
    "chatgpt.com": "codex",
}
_OLLAMA_PORT = 11434


def preset_for(provider_name: str, base_url: str) -> Quirks:
    """The preset of a provider: by its name, else by the host of its URL, else plain Chat Completions."""
    if preset := PRESETS.get(provider_name.lower()):
        return preset
    try:
        url = urlsplit(base_url)
        host, port = url.hostname or "", url.port
    except ValueError:  # not a URL; the configuration's own checks will say so
        return Quirks()
    for domain, name in _HOSTS.items():
        if host == domain or host.endswith(f".{domain}"):
            return PRESETS[name]
    return PRESETS["ollama"] if port == _OLLAMA_PORT else Quirks()


def quirks_from_mapping(preset: Quirks, mapping: Mapping[str, Any]) -> Quirks:
    """`preset` with the keys of a configuration's `quirks` object over it.

    Lists and single values replace the preset's; tables are merged into it entry by entry (`images: false` and
    `pdf: true`, without a table, speak for all models).

    Raises:
        ValueError: An unknown key or a wrong value; the message names the key, what was found and what is accepted.
    """
    changes: dict[str, Any] = {}
    for key, value in mapping.items():
        if key not in _KEYS:
            raise ValueError(f"{key}: there is no such key; accepted: {', '.join(_KEYS)}")
        attribute, form = _KEYS[key]
        if not form.fits(value):
            found = "other values" if key == "headers" else _shown(value)  # a header may be a secret
            raise ValueError(f"{key}: found {found}; accepted: {form.accepted}")
        merges = isinstance(value, dict)
        changes[attribute] = {**getattr(preset, attribute), **form.read(value)} if merges else form.read(value)
    return replace(preset, **changes)


@dataclass(frozen=True, slots=True)
class _Form:
    """What a configuration value must be: in words, as a test, and how it is read."""

    accepted: str
    fits: Callable[[Any], bool]
    read: Callable[[Any], Any] = lambda value: value


def _list_of(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(test, value))


def _table_of(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(test, value.values()))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_effort(value: Any) -> bool:
    return value in EFFORTS


def _is_limit(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1)


def _are_headers(value: Any) -> bool:
    return _table_of(lambda text: isinstance(text, str) and _HEADER_VALUE.fullmatch(text) is not None)(value) and all(
        _HEADER_NAME.fullmatch(name) for name in value
    )


_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_LEVELS = ", ".join(EFFORTS)

_NAMES = _Form("an array of names", _list_of(_is_name), tuple)
_FLAG = _Form("true or false", _is_flag)
_FLAGS = _Form(
    "true, false, or an object of model names and true or false",
    lambda value: _is_flag(value) or _table_of(_is_flag)(value),
    lambda value: {"*": value} if _is_flag(value) else value,
)
_KEYS: Mapping[str, tuple[str, _Form]] = {
    "drop": ("drop", _NAMES),
    "rename": ("rename", _Form("an object of old and new field names", _table_of(_is_name))),
    "set": ("set", _Form("an object of field names and their values", lambda value: isinstance(value, dict))),
    "headers": ("headers", _Form("an object of header names and their values, in printable ASCII", _are_headers)),
    "maxTokensField": ("max_tokens_field", _Form("a field name", _is_name)),
    "maxTokensCap": ("max_tokens_cap", _Form("a whole number of 1 or more, or null", _is_limit)),
    "dropSchemaKeywords": ("drop_schema_keywords", _NAMES),
    "parallelToolCalls": ("parallel_tool_calls", _FLAG),
    "images": ("images", _FLAGS),
    "pdf": ("pdf", _FLAGS),
    "strict": ("strict", _Form("true, false or null", lambda value: value is None or _is_flag(value))),
    "reasoningEffort": ("reasoning_effort", _FLAG),
    "efforts": (
        "efforts",
        _Form(
            f"an object of model names and arrays of: {_LEVELS}",
            _table_of(_list_of(_is_effort)),
            lambda value: {model: tuple(efforts) for model, efforts in value.items()},
        ),
    ),
    "effortOff": ("effort_off", _Form(f"an object of model names and one of: {_LEVELS}", _table_of(_is_effort))),
    "verbosity": (
        "verbosity",
        _Form(
            f"an object of model names and one of: {', '.join(VERBOSITIES)}",
            _table_of(lambda value: value in VERBOSITIES),
        ),
    ),
    "lane": ("lane", _Form(f"one of: {', '.join(LANES)}", lambda value: value in LANES)),
}
"""Key of the configuration: the attribute it sets, and its form."""


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f"{text[:60]}…"
