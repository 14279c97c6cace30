"""The configuration: typed, frozen, and strict about what it reads.

`load_config` reads `~/.claude-code-router/config.json` (or the file that `CCR_ASGI_CONFIG` names), lays `CCR_ASGI_…`
environment variables over it, and refuses whatever it does not understand, naming file, key, what was found and what
is accepted. Without a file everything has a default: requests pass through to Anthropic.
"""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import msgspec

from ccr_asgi.config_budgets import check_budgets
from ccr_asgi.config_file import (
    IMPLIED,
    BudgetEntry,
    ConfigFile,
    Cost,
    Kind,
    Limits,
    Network,
    OnUnknown,
    ProviderEntry,
    RuleEntry,
    Timeouts,
    Usage,
    convert,
    with_environment,
    without_password,
)
from ccr_asgi.errors import ConfigError
from ccr_asgi.quirks import Quirks, preset_for, quirks_from_mapping

__all__ = [
    "BudgetEntry",
    "Config",
    "Cost",
    "Kind",
    "Limits",
    "Network",
    "OnUnknown",
    "Provider",
    "RuleEntry",
    "Timeouts",
    "Usage",
    "load_config",
]

_CREDENTIAL_HEADERS = frozenset({"authorization", "x-api-key", "api-key"})

MAX_USD_PER_MTOK = 1_000_000
"""More is a slip of the pen."""

DEFAULT_PATH = "~/.claude-code-router/config.json"


@dataclass(frozen=True, slots=True)
class Provider:
    """A named upstream.

    Attributes:
        name: Its key under `providers`.
        kind: Its wire format (config key `type`).
        base_url: For `anthropic` the origin with an optional path prefix; for the others the full endpoint URL.
        api_key: The provider's own secret; None when none is configured. Never shown by `repr`.
        passthrough: The client's own credential is what the upstream wants (`anthropic` only).
        auth_file: The Codex CLI's login file, when that is the credential.
        token_url: Where that login is refreshed; None for the usual place.
        models: Model names that route here by themselves.
        headers: Extra headers for every request to it.
        quirks: How it differs from its kind.
        fallback: By model name or pattern, what to try when it fails: "provider,model" or "provider".
        pricing: Name of the price list, where neither name nor host tells it.
        key_hint: Where its key was expected ("${CEREBRAS_API_KEY}"), for the error that says it is missing.
    """

    name: str
    kind: Kind
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    passthrough: bool = False
    auth_file: str | None = None
    token_url: str | None = None
    models: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    quirks: Quirks = field(default_factory=Quirks)
    fallback: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pricing: str | None = None
    key_hint: str | None = None

    @property
    def host(self) -> str:
        """The host name of its URL."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def chatgpt_login(self) -> bool:
        """Whether requests go out under the Codex CLI's login, to the backend of a ChatGPT subscription."""
        return self.auth_file is not None and self.api_key is None

    @property
    def has_credential(self) -> bool:
        """Whether there is something to send: the client's own credential, a key, a login, or a key among `headers`."""
        if self.passthrough or self.api_key or self.auth_file:
            return True
        return not _CREDENTIAL_HEADERS.isdisjoint(name.lower() for name, _ in self.headers)


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration, resolved: secrets read, paths expanded, providers complete.

    Attributes:
        source: The file it was read from; None if there is none.
        providers: By name; "anthropic" is always among them.
        rules: Where requests go that say nothing themselves; the first that fits counts.
        budgets: How much may be spent, and what is done beyond.
        usage: As configured, with `database` and `log_file` expanded.
        require_key: This machine needs a proxy key, too.
        metrics: Requests are counted for Prometheus, at `/metrics`.
        tracing: Requests make OpenTelemetry spans.
        warnings: What is odd but usable, for the start-up lines.
        simulated: Everything is made up, by `ccr-asgi demo`; no file can say so.
    """

    source: Path | None
    host: str
    port: int
    providers: Mapping[str, Provider]
    timeouts: Timeouts
    limits: Limits
    usage: Usage
    allowed_hosts: tuple[str, ...]
    proxy_keys: Mapping[str, str] = field(repr=False)
    on_unknown: OnUnknown
    rules: tuple[RuleEntry, ...]
    budgets: tuple[BudgetEntry, ...]
    network: Network
    require_key: bool = False
    metrics: bool = False
    tracing: bool = False
    warnings: tuple[str, ...] = ()
    simulated: bool = False


def config_path(environ: Mapping[str, str] | None = None) -> Path:
    """Where the configuration file is expected."""
    environ = os.environ if environ is None else environ
    return Path(environ.get("CCR_ASGI_CONFIG") or DEFAULT_PATH).expanduser()


def load_config(path: str | Path | None = None, *, environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration file and the environment.

    Args:
        path: The file; by default `CCR_ASGI_CONFIG`, else `~/.claude-code-router/config.json`, which may be absent.
        environ: The environment variables; by default the process's own.

    Raises:
        ConfigError: Something is not understood.
    """
    environ = os.environ if environ is None else environ
    named = path is not None or bool(environ.get("CCR_ASGI_CONFIG"))
    source = Path(path).expanduser() if path is not None else config_path(environ)
    try:
        text = source.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        if named:
            raise ConfigError(f"{source}: there is no such file. Create it, or unset CCR_ASGI_CONFIG.") from None
        return parse_config({}, environ=environ)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: cannot be read: {error}") from None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not JSON: {error}") from None
    return parse_config(data, source=source, environ=environ)


def parse_config(data: object, *, source: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Make a `Config` of what a file holds (`data`, parsed JSON) and the environment.

    Raises:
        ConfigError: Something is not understood.
    """
    environ = {} if environ is None else environ
    where = str(source or "configuration")
    if isinstance(data, dict) and data.keys() & {"Providers", "Router", "PORT"}:
        raise ConfigError(
            f"{where}: this is the file of another router, claude-code-router (it has the keys "
            f"{', '.join(sorted(data.keys() & {'Providers', 'Router', 'PORT'}))}). ccr-asgi reads the keys port, "
            "providers, usage, …: name a file of its own in CCR_ASGI_CONFIG."
        )
    file = convert(data, where, strict=True)
    warnings: list[str] = []
    overridden = with_environment(data if isinstance(data, dict) else {}, environ, warnings)
    if overridden is not data:
        file = convert(overridden, "environment", strict=False)
    _check_values(file, where)
    providers = _providers(file, where, environ)
    for index, rule in enumerate(file.rules):
        _checked_link(rule.route, providers, f"{where}: rules[{index}].route")
    check_budgets(file.budgets, where, providers=providers, keys=file.proxy_keys)
    return Config(
        source=source,
        host=file.host,
        port=file.port,
        providers=providers,
        timeouts=file.timeouts,
        limits=file.limits,
        usage=_usage(file.usage, f"{where}: usage", environ),
        allowed_hosts=file.allowed_hosts,
        proxy_keys={
            name: _proxy_key(value, f"{where}: proxyKeys.{name}", environ) for name, value in file.proxy_keys.items()
        },
        on_unknown=file.on_unknown,
        rules=file.rules,
        budgets=file.budgets,
        network=_network(file.network, f"{where}: network"),
        require_key=file.require_key,
        metrics=file.metrics,
        tracing=file.tracing,
        warnings=tuple(warnings),
    )


def _check_values(file: ConfigFile, where: str) -> None:
    if not 0 <= file.port <= 65535:
        raise ConfigError(f"{where}: port: found {file.port}; accepted is 0 to 65535.")
    if file.require_key and not file.proxy_keys:
        raise ConfigError(f"{where}: requireKey: there are no proxyKeys, so that nobody would get in.")
    if (days := file.usage.retention_days) is not None and not 0 < days < math.inf:
        raise ConfigError(f"{where}: usage.retentionDays: found {days}; it must be more than 0.")
    for model, cost in file.usage.costs.items():
        for item in msgspec.structs.fields(Cost):
            if (usd := getattr(cost, item.name)) is not None and not 0 <= usd <= MAX_USD_PER_MTOK:
                key = f"usage.costs.{model}.{item.encode_name}"
                raise ConfigError(f"{where}: {key}: found {usd}; accepted is 0 to {MAX_USD_PER_MTOK}.")
    for group, values in (("timeouts", file.timeouts), ("limits", file.limits)):
        for item in msgspec.structs.fields(type(values)):
            if not 0 < (value := getattr(values, item.name)) < math.inf:  # JSON parsers also take NaN and Infinity
                raise ConfigError(f"{where}: {group}.{item.encode_name}: found {value}; it must be more than 0.")


def _providers(file: ConfigFile, where: str, environ: Mapping[str, str]) -> dict[str, Provider]:
    entries = dict(file.providers)
    entries.setdefault("anthropic", ProviderEntry())
    providers = {name: _provider(name, entry, f"{where}: providers.{name}", environ) for name, entry in entries.items()}
    for name, provider in providers.items():
        for link in (link for links in provider.fallback.values() for link in links):
            _checked_link(link, providers, f"{where}: providers.{name}.fallback")
    return providers


def _checked_link(link: str, providers: Mapping[str, Provider], where: str) -> None:
    if (named := link.partition(",")[0].strip()) not in providers:
        raise ConfigError(
            f"{where}: found {link!r:.200}, whose provider {named!r:.100} is not configured; accepted is "
            f"'provider,model' or 'provider', of {', '.join(providers)}."
        )


def _provider(name: str, entry: ProviderEntry, where: str, environ: Mapping[str, str]) -> Provider:
    if not name.strip() or "," in name or "/" in name:
        raise ConfigError(f"{where}: a provider's name cannot be empty or hold a comma or a slash.")
    implied_kind, implied_url = IMPLIED.get(name, (None, None))
    kind = entry.type or implied_kind
    if kind is None:
        raise ConfigError(f"{where}.type: missing; accepted: {', '.join(get_args(Kind))}.")
    if name == "anthropic" and kind != "anthropic":
        raise ConfigError(f"{where}.type: found {kind!r}; the provider called 'anthropic' is of type 'anthropic'.")
    base_url = entry.base_url or (implied_url if kind == implied_kind else None)
    if base_url is None:
        raise ConfigError(f"{where}.baseUrl: missing; give the URL of the {kind} endpoint.")
    api_key, key_hint = _api_key(entry.api_key, f"{where}.apiKey", environ)
    passthrough = entry.passthrough if entry.passthrough is not None else name == "anthropic" and not entry.api_key
    if passthrough and (kind != "anthropic" or entry.api_key):
        raise ConfigError(
            f"{where}.passthrough: it hands the client's own credential on, so it goes only with type 'anthropic' and "
            "without an apiKey."
        )
    if passthrough and entry.headers:
        raise ConfigError(
            f"{where}.headers: a passthrough provider's requests go out as the client made them; remove them, or give "
            "the provider an apiKey."
        )
    auth_file = entry.auth_file or ("~/.codex/auth.json" if name == "codex" and not entry.api_key else None)
    return Provider(
        name=name,
        kind=kind,
        base_url=_checked_endpoint(base_url, f"{where}.baseUrl"),
        api_key=api_key,
        passthrough=passthrough,
        auth_file=str(Path(auth_file).expanduser()) if auth_file else None,
        token_url=_checked_endpoint(entry.token_url, f"{where}.tokenUrl") if entry.token_url else None,
        models=entry.models,
        headers=tuple(
            (key, _checked_header(key, _secret(value, f"{where}.headers.{key}", environ), f"{where}.headers.{key}"))
            for key, value in entry.headers.items()
        ),
        quirks=_quirks(name, base_url, entry.quirks, f"{where}.quirks"),
        fallback=_fallback(entry.fallback),
        pricing=entry.pricing,
        key_hint=key_hint,
    )


def _fallback(found: tuple[str, ...] | dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    if isinstance(found, dict):
        return found
    return {"*": found} if found else {}


def _quirks(name: str, base_url: str, found: dict[str, Any], where: str) -> Quirks:
    try:
        return quirks_from_mapping(preset_for(name, base_url), found)
    except ValueError as error:
        raise ConfigError(f"{where}.{error}.") from None


def _checked_url(url: str, where: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.fragment
        usable = usable and (parts.port is None or parts.port > 0) and url.isascii() and url.isprintable()
    except ValueError:
        usable = False
    if not usable or " " in url:
        raise ConfigError(
            f"{where}: found {without_password(url)!r:.200}; accepted is a URL that begins with https:// or http://."
        )
    return url


def _checked_endpoint(url: str, where: str) -> str:
    if "@" in urlsplit(_checked_url(url, where)).netloc:
        raise ConfigError(f"{where}: a user name or password in a URL is not sent; use apiKey or headers.")
    return url


def _checked_header(name: str, value: str, where: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not (value.isprintable() and value.isascii()):
        raise ConfigError(f"{where}: not a header name and a value of printable ASCII characters.")
    return value


_VARIABLE = re.compile(r"\$\{(\w+)\}")


def _api_key(found: str | None, where: str, environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The key, and where it was expected. A variable that is not set leaves the provider without a key, so that one
    configuration serves several machines; using it then says so.
    """
    if found and (missing := [name for name in _VARIABLE.findall(found) if not environ.get(name)]):
        return None, f"${{{missing[0]}}}"
    key = _secret(found, where, environ) if found else None
    return (_checked_header("key", key, where) if key else None), None


def _secret(value: str, where: str, environ: Mapping[str, str]) -> str:
    """A secret as it is written, by `${VAR}`, or by `file:PATH` (surrounding white space is not part of it)."""
    if value.startswith("file:"):
        path = Path(value[len("file:") :]).expanduser()
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where}: the file {path} cannot be read: {error}") from None
    for name in _VARIABLE.findall(value):
        if name not in environ:
            raise ConfigError(f"{where}: the environment variable {name} is not set.")
    return _VARIABLE.sub(lambda match: environ[match[1]], value)


def _proxy_key(value: str, where: str, environ: Mapping[str, str]) -> str:
    if not (key := _secret(value, where, environ)):
        raise ConfigError(f"{where}: it is empty, so that anyone would have it.")
    return key


def _network(network: Network, where: str) -> Network:
    if network.proxy is not None and not _checked_url(network.proxy, f"{where}.proxy").startswith("http://"):
        raise ConfigError(f"{where}.proxy: the connection to a proxy itself is made by http://.")
    if network.ca_file is None:
        return network
    ca_file = Path(network.ca_file).expanduser()
    if not ca_file.is_file():
        raise ConfigError(f"{where}.caFile: there is no file {ca_file}.")
    return msgspec.structs.replace(network, ca_file=str(ca_file))


def _usage(usage: Usage, where: str, environ: Mapping[str, str]) -> Usage:
    database = environ.get("CCR_ASGI_DATABASE_URL") or usage.database
    if not database or ":memory:" in database or database.rstrip("/").endswith(":"):
        raise ConfigError(f"{where}.database: found {database!r}; accepted is a path, or a URL that names a database.")
    if "://" not in database:
        database = str(Path(database).expanduser())
    log_file = str(Path(usage.log_file).expanduser()) if usage.log_file else None
    return msgspec.structs.replace(usage, database=database, log_file=log_file)
