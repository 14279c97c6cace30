"""The configuration file as it is written: its shape, what the environment lays over it, and what is wrong with it."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal, get_args, get_origin

import msgspec

from ccr_asgi.errors import ConfigError

Kind = Literal["anthropic", "openai-chat", "openai-responses"]
OnUnknown = Literal["refuse", "passthrough"]

DEFAULT_DATABASE = "~/.claude-code-router/usage.db"
ENV_PREFIX = "CCR_ASGI_"
NOT_OVERRIDES = ("CCR_ASGI_CONFIG", "CCR_ASGI_DATABASE_URL")
"""Variables that are read elsewhere."""

IMPLIED: Mapping[str, tuple[Kind, str]] = {
    "anthropic": ("anthropic", "https://api.anthropic.com"),
    "cerebras": ("openai-chat", "https://api.cerebras.ai/v1/chat/completions"),
    "codex": ("openai-responses", "https://chatgpt.com/backend-api/codex/responses"),
}
"""Provider names that imply a type and a URL, as in the original's configuration file."""


_SECRET_FIELDS = frozenset({"api_key", "headers", "proxy_keys", "quirks"})


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """What every object of the file has in common: camelCase keys, no key that we do not know, no secret in `repr`."""

    def __repr__(self) -> str:
        values = {name: getattr(self, name) for name in self.__struct_fields__ if name not in _SECRET_FIELDS}
        shown = {name: without_password(value) if isinstance(value, str) else value for name, value in values.items()}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class Timeouts(Entry, frozen=True):
    """Seconds. `idle_s` is between two bytes of the upstream; there is no limit on a whole stream."""

    connect_s: float = 5.0
    write_s: float = 30.0
    idle_s: float = 300.0
    drain_s: float = 30.0


class Limits(Entry, frozen=True):
    """Sizes that are refused beyond."""

    body_mb: float = 32.0


class Cost(Entry, frozen=True):
    """A price in USD per million tokens; a cache price that is not given is that of input.

    `cache_write_1h` is for writes that are kept for an hour; not given, they cost as much as the others.
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = msgspec.field(name="cacheWrite1h", default=None)


class Usage(Entry, frozen=True):
    """Where rows go: the database (a path or an SQLAlchemy URL), and a JSONL file beside it if one is named.

    `retention_days` is how long they stay; for ever, if nothing is said. `projects` has each row name the folder that
    the client works in.
    """

    database: str = DEFAULT_DATABASE
    log_file: str | None = None
    costs: dict[str, Cost] = {}
    retention_days: float | None = None
    projects: bool = True


class Network(Entry, frozen=True):
    """How upstreams are reached: an HTTP proxy's URL, and a file of certificate authorities."""

    proxy: str | None = None
    ca_file: str | None = None


class ProviderEntry(Entry, frozen=True):
    type: Kind | None = None
    base_url: str | None = None
    api_key: str | None = None
    auth_file: str | None = None
    token_url: str | None = None
    models: tuple[str, ...] = ()
    headers: dict[str, str] = {}
    quirks: dict[str, Any] = {}
    fallback: tuple[str, ...] | dict[str, tuple[str, ...]] = ()
    pricing: str | None = None
    passthrough: bool | None = None


class RuleEntry(Entry, frozen=True):
    """Where requests go that fit all that is said here; names are patterns such as `claude-haiku-*`."""

    route: str
    agent_id: str | None = None
    model: str | None = None
    thinking: bool | None = None
    tool: str | None = None
    min_body_kb: float | None = None
    max_body_kb: float | None = None


class BudgetEntry(Entry, frozen=True):
    """How much may be spent on requests that fit all that is said here, and what is done beyond; see `budgets`."""

    per: Literal["day", "week"]
    then: Literal["warn", "block", "fallback"]
    usd: float | None = None
    tokens: int | None = None
    counts: Literal["billed", "list"] = "billed"
    provider: str | None = None
    agent_id: str | None = None
    key: str | None = None
    route: str | None = None


class ConfigFile(Entry, frozen=True):
    port: int = 3456
    host: str = "127.0.0.1"
    providers: dict[str, ProviderEntry] = {}
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    usage: Usage = Usage()
    allowed_hosts: tuple[str, ...] = ()
    proxy_keys: dict[str, str] = {}
    require_key: bool = False
    on_unknown: OnUnknown = "refuse"
    rules: tuple[RuleEntry, ...] = ()
    budgets: tuple[BudgetEntry, ...] = ()
    network: Network = Network()
    metrics: bool = False
    tracing: bool = False


def convert(data: object, where: str, *, strict: bool) -> ConfigFile:
    """Read parsed JSON as a configuration file; not `strict` also takes numbers and booleans written as text.

    Raises:
        ConfigError: It is not one; the message names key, what was found and what is accepted.
    """
    try:
        return msgspec.convert(data, ConfigFile, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_explain(data, ConfigFile, (), str(error), strict)}") from None


def with_environment(data: dict[str, Any], environ: Mapping[str, str], warnings: list[str]) -> dict[str, Any]:
    """`data` with each `CCR_ASGI_A__B=value` laid over its key `a.b`, names matched without case.

    Returns `data` itself if no variable does. A variable that names no key adds to `warnings`.
    """
    merged = data
    for variable, value in sorted(environ.items()):
        if not variable.startswith(ENV_PREFIX) or variable in NOT_OVERRIDES:
            continue
        names = variable.removeprefix(ENV_PREFIX).split("__")
        if _spelled(names[0], _keys_at(())) is None:
            warnings.append(f"the environment variable {variable} names no configuration key and is ignored")
            continue
        if merged is data:
            merged = json.loads(json.dumps(data))
        _lay_over(merged, names, _parsed(value))
    return merged


def _lay_over(target: dict[str, Any], names: list[str], value: object) -> None:
    path: tuple[str, ...] = ()
    for name in names:
        parent, key = target, _spelled(name, [*target, *_keys_at(path)]) or name.lower()
        path += (key,)
        if not isinstance(target := parent.setdefault(key, {}), dict):
            target = parent[key] = {}
    parent[key] = value


def _spelled(name: str, known: Iterable[str]) -> str | None:
    return next((key for key in known if key.lower() == name.lower()), None)


def _parsed(value: str) -> object:
    """A variable's value: text, but for lists and objects, which are written as JSON."""
    if value[:1] in ("[", "{"):
        with suppress(ValueError):
            return json.loads(value)
    return value


def _explain(data: object, kind: Any, path: tuple[str, ...], message: str, strict: bool) -> str:
    """Why `data` is not a `kind`: what msgspec says of the deepest value that is to blame."""
    for key, value in _items(data, kind):
        part = _kind_of(kind, key)
        if part is None:
            here = _dotted((*path, key))
            return f"{here}: there is no such key; accepted: {', '.join(_keys_of(kind))}."
        try:
            msgspec.convert(value, part, strict=strict)
        except msgspec.ValidationError as error:
            return _explain(value, part, (*path, key), str(error), strict)
    what = message.partition(" - at ")[0].replace("`", "'") + _accepted_values(kind)
    # Where an object belongs, people also write a bare key.
    secret = {"apiKey", "proxyKeys", "headers"}.intersection(path) or get_origin(kind) is dict or _keys_of(kind)
    found = "" if secret or isinstance(data, dict) else f" (found {json.dumps(data)[:80]})"
    return f"{_dotted(path) or 'the whole file'}: {what}{found}."


def _items(data: object, kind: Any) -> Iterable[tuple[str, object]]:
    """What `data` is made of, by key, or by place where it is a list and shall be one."""
    if isinstance(data, dict):
        return data.items()
    if isinstance(data, list) and get_origin(kind) is tuple:
        return ((f"[{place}]", value) for place, value in enumerate(data))
    return ()


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(path).replace(".[", "[")


def without_password(url: str) -> str:
    """`url` as it may be shown: without what stands before its host. A path, which is no URL, is shown as it is."""
    scheme, separator, rest = url.partition("://")
    if not separator or "@" not in rest:
        return url
    return f"{scheme}://***@{rest.rpartition('@')[2]}"


def _keys_at(path: tuple[str, ...]) -> tuple[str, ...]:
    """The keys that are known at a place of the file; provider names that imply a type are known too."""
    kind: Any = ConfigFile
    for key in path:
        kind = _kind_of(kind, key)
    return tuple(IMPLIED) if path == ("providers",) else _keys_of(kind)


def _keys_of(kind: Any) -> tuple[str, ...]:
    is_entry = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    return tuple(item.encode_name for item in msgspec.structs.fields(kind)) if is_entry else ()


def _kind_of(kind: Any, key: str) -> Any:
    """The type of the value under `key` in an object of type `kind`; None if it has no such key."""
    if get_origin(kind) is tuple:
        return get_args(kind)[0]
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    if key not in _keys_of(kind):
        return None
    return next(item.type for item in msgspec.structs.fields(kind) if item.encode_name == key)


def _accepted_values(kind: Any) -> str:
    """The values of a `Literal`, also of an optional one, for the end of a message."""
    choices = next((part for part in (kind, *get_args(kind)) if get_origin(part) is Literal), None)
    return f"; accepted: {', '.join(get_args(choices))}" if choices is not None else ""
