"""What the log says when the server starts, so that nobody has to guess what is on."""

import logging
from collections.abc import Iterator
from pathlib import Path

from ccr_asgi import __version__
from ccr_asgi.config import Config, Provider
from ccr_asgi.config_file import without_password
from ccr_asgi.logs import OneLineFormatter


def describe(config: Config, file: Path | None) -> Iterator[str]:
    """The start-up lines: where the configuration is, which providers are usable, where usage goes.

    `file` is the configuration file, there or not; None if the configuration was handed over by a program.
    """
    source = file if config.source else f"no configuration file ({file} does not exist)"
    yield f"ccr-asgi {__version__}, {source if file else 'configured by the program'}"
    for provider in config.providers.values():
        yield f"provider {provider.name}: {_state(provider)}"
    yield f"usage: {without_password(config.usage.database)}"
    for warning in config.warnings:
        yield f"warning: {warning}"
    if file and len(config.providers) == 1:
        yield (
            "every request goes to the provider anthropic. To add a provider, write "
            '{"providers": {"cerebras": {"apiKey": "${CEREBRAS_API_KEY}", "models": ["gpt-oss-120b"]}}} '
            f"to {file}"
        )


def invitation(config: Config) -> str:
    """How Claude Code is pointed at a server that listens where the configuration says."""
    everywhere = ("127.0.0.1", "0.0.0.0", "::", "::1")  # noqa: S104 -- compared with, not bound to
    host = "localhost" if config.host in everywhere else f"[{config.host}]" if ":" in config.host else config.host
    return f"point Claude Code here: ANTHROPIC_BASE_URL=http://{host}:{config.port} claude"


def log_to_stderr_if_nobody_listens() -> None:
    """Give our logger a handler where the server or host app has set up none, so that the lines above are seen."""
    ours = logging.getLogger("ccr_asgi")
    if not ours.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(OneLineFormatter("%(levelname)-8s %(message)s"))
        ours.addHandler(handler)
        ours.setLevel(logging.INFO)


def _state(provider: Provider) -> str:
    if provider.passthrough:
        return f"{provider.base_url}, with the client's own credential"
    models = f", models {', '.join(provider.models)}" if provider.models else ""
    if provider.has_credential:
        return f"{provider.base_url}{models}"
    return f"no key configured ({provider.key_hint or 'set apiKey'}), requests for it are refused{models}"
