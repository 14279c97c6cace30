"""What the log says at the start: what is on, what is missing, no secret, one line for one record."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi.config import config_path, load_config, parse_config
from ccr_asgi.startup import describe, invitation, log_to_stderr_if_nobody_listens

SECRET = "invented-secret"


def described(data: dict[str, Any], **environ: str) -> list[str]:
    return list(describe(parse_config(data, environ=environ), None))


def test_the_providers_and_the_database_are_told() -> None:
    lines = described(
        {
            "providers": {
                "cerebras": {"apiKey": SECRET, "models": ["gpt-oss-120b", "zai-glm-4.7"]},
                "local": {"type": "openai-chat", "baseUrl": "http://h/v1/chat/completions", "apiKey": "${KEY}"},
                "other": {"type": "openai-chat", "baseUrl": "http://o/v1/chat/completions", "models": ["m"]},
                "codex": {},
                "azure": {"type": "openai-chat", "baseUrl": "http://a/v1", "headers": {"api-key": SECRET}},
            },
            "usage": {"database": f"postgresql://u:{SECRET}@h/d"},
        },
        CCR_ASGI_PROT="1",
    )
    assert lines[1:] == [
        "provider cerebras: https://api.cerebras.ai/v1/chat/completions, models gpt-oss-120b, zai-glm-4.7",
        "provider local: no key configured (${KEY}), requests for it are refused",
        "provider other: no key configured (set apiKey), requests for it are refused, models m",
        "provider codex: https://chatgpt.com/backend-api/codex/responses",
        "provider azure: http://a/v1",
        "provider anthropic: https://api.anthropic.com, with the client's own credential",
        "usage: postgresql://***@h/d",
        "warning: the environment variable CCR_ASGI_PROT names no configuration key and is ignored",
    ]
    assert SECRET not in "".join(lines)


def test_a_configuration_from_a_program_names_no_file() -> None:
    lines = described({})
    assert lines[0].endswith("configured by the program")
    assert not any("config.json" in line for line in lines)


def test_without_a_file_it_is_said_how_to_add_a_provider() -> None:
    lines = list(describe(load_config(), config_path()))
    assert "no configuration file" in lines[0]
    assert "every request goes to the provider anthropic" in lines[-1]
    assert ".claude-code-router/config.json" in lines[-1]


def test_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{}")
    lines = list(describe(load_config(path), path))
    assert str(path) in lines[0]
    assert lines[-1].endswith(f"to {path}")


@pytest.mark.parametrize(
    ("host", "named"),
    [
        *(("127.0.0.1", "localhost"), ("::", "localhost"), ("::1", "localhost")),
        ("0.0.0.0", "localhost"),  # noqa: S104 -- nothing is bound
        *(("192.0.2.7", "192.0.2.7"), ("ccr.example", "ccr.example"), ("2001:db8::1", "[2001:db8::1]")),
    ],
)
def test_claude_code_is_pointed_at_an_address_that_works(host: str, named: str) -> None:
    config = parse_config({"host": host, "port": 4000})
    assert invitation(config).endswith(f"ANTHROPIC_BASE_URL=http://{named}:4000 claude")


@contextmanager
def quiet_logger(*handlers: logging.Handler) -> Iterator[logging.Logger]:
    """Our logger with these handlers alone; not a fixture, since pytest adds its own after those have run."""
    ours = logging.getLogger("ccr_asgi")
    before = ours.handlers, ours.propagate, ours.level
    ours.handlers, ours.propagate = [*handlers], False
    try:
        yield ours
    finally:
        ours.handlers, ours.propagate = before[:2]
        ours.setLevel(before[2])


def test_the_lines_are_seen_where_nobody_set_up_logging() -> None:
    with quiet_logger() as ours:
        log_to_stderr_if_nobody_listens()
        log_to_stderr_if_nobody_listens()
        assert len(ours.handlers) == 1
        assert ours.isEnabledFor(logging.INFO)


def test_a_hosts_own_logging_is_left_alone() -> None:
    theirs = logging.NullHandler()
    with quiet_logger(theirs) as ours:
        log_to_stderr_if_nobody_listens()
        assert ours.handlers == [theirs]
