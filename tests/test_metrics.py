"""Prometheus' metrics: what is counted, under bounded labels, right over several workers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ccr_asgi.errors import ConfigError
from ccr_asgi.metrics import FOLDER, Metrics, counted_together
from tests.integration.claude import CHAT_KEY, TARGET, body, headers, new_session, soon, tagged
from tests.support.fake_upstream import FakeUpstream
from tests.support.raw_http import RawClient, fetch
from tests.support.server import running_server
from tests.usage.records import record


def metrics() -> Metrics:
    return Metrics(lambda name: name == "cerebras")


def lines(made: Metrics) -> set[str]:
    return {line for line in made.text().decode().splitlines() if not line.startswith("#") and "_created" not in line}


def test_a_request_is_counted_in_its_parts() -> None:
    made = metrics()
    made.count(record(attempts=2, resends=3), 0)
    assert lines(made) >= {
        'ccr_asgi_requests_total{outcome="ok",provider="cerebras"} 1.0',
        'ccr_asgi_tokens_total{kind="input",provider="cerebras"} 10.0',
        'ccr_asgi_tokens_total{kind="cache_read",provider="cerebras"} 20.0',
        'ccr_asgi_tokens_total{kind="output",provider="cerebras"} 50.0',
        'ccr_asgi_fallbacks_total{provider="cerebras"} 1.0',
        'ccr_asgi_resends_total{provider="cerebras"} 3.0',
        'ccr_asgi_request_duration_seconds_sum{provider="cerebras"} 2.0',
        'ccr_asgi_request_duration_seconds_bucket{le="2.0",provider="cerebras"} 1.0',
        'ccr_asgi_time_to_first_token_seconds_bucket{le="0.1",provider="cerebras"} 0.0',
        'ccr_asgi_time_to_first_token_seconds_bucket{le="0.25",provider="cerebras"} 1.0',
        "ccr_asgi_usage_rows_lost_total 0.0",
    }


def test_names_that_nobody_configured_make_no_labels() -> None:
    made = metrics()
    for provider in (None, "made up", "another"):
        made.count(record(provider=provider, ttft_ms=None, duration_ms=None, outcome="error"), 0)
    assert 'ccr_asgi_requests_total{outcome="error",provider="none"} 3.0' in lines(made)
    assert "made up" not in made.text().decode()


def test_lost_rows_are_counted_once() -> None:
    made = metrics()
    for lost in (0, 2, 2, 5):
        made.count(record(), lost)
    assert "ccr_asgi_usage_rows_lost_total 5.0" in lines(made)


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"pip install 'ccr-asgi\[metrics\]'"):
        metrics()


def test_one_worker_needs_no_folder() -> None:
    with counted_together(1):
        assert FOLDER not in os.environ
    with counted_together(2):
        folder = Path(os.environ[FOLDER])
        assert folder.is_dir()
    assert not folder.exists()
    assert FOLDER not in os.environ


def test_a_folder_that_is_named_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    with counted_together(2):
        assert os.environ[FOLDER] == str(tmp_path)


@pytest.mark.parametrize("server", ["uvicorn", "granian"])
def test_workers_count_together(fake_upstream: FakeUpstream, tmp_path: Path, server: str) -> None:
    chat = {"apiKey": CHAT_KEY, "baseUrl": f"{fake_upstream.url}/v1/chat/completions"}
    config = {"providers": {"anthropic": {"baseUrl": fake_upstream.url}, "cerebras": chat}, "metrics": True}

    def counted() -> str:
        answer = fetch(f"{running.url}/metrics")
        assert answer.status == 200
        return answer.body.decode()

    def all_are_counted() -> bool:
        return all(f'{{outcome="ok",provider="{name}"}} 10.0' in counted() for name in ("anthropic", "cerebras"))

    arguments = ("--server", server)
    with running_server(config, tmp_path=tmp_path, server="serve", workers=2, arguments=arguments) as running:
        for number in range(20):  # each on a connection of its own, so that both workers get some
            with RawClient(running.url) as client:
                client.request("POST", TARGET, headers(new_session()), tagged() if number % 2 else body())
        assert soon(all_are_counted), counted()
        text = counted()
    assert CHAT_KEY not in text
    if (
        promtool := shutil.which("promtool")
    ) is not None:  # Debian's package prometheus has it, and .ci/run installs it
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_without_metrics_there_is_no_such_page(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    with running_server({}, tmp_path=tmp_path) as running:
        assert fetch(f"{running.url}/metrics").status == 404
