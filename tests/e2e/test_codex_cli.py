"""One login, two users: the real Codex CLI and the product rotate the tokens of the same auth.json, and both go on.

The backend honours the newest tokens alone, so whoever missed a rotation would be refused. The CLI rotates an access
token in the last five minutes of its life, the product in the last minute.
"""

import json
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.codex_cli import INSTALLED, CodexCli, Run, find_binary
from tests.support.codex_backend import CodexBackend
from tests.support.codex_login import ACCOUNT_ID, TEN_DAYS_S
from tests.support.fake_upstream import FakeUpstream, Gate, RecordedRequest
from tests.support.raw_http import RawClient
from tests.support.server import RunningServer, running_server

pytestmark = pytest.mark.e2e

SAYS = "The pears are ripe."
EXPIRED_S = -100.0
IN_THE_CLIS_WINDOW_S = 200.0
"""So little is left that the CLI rotates, and so much that the product does not."""

FOREIGN: dict[str, Any] = {"personal_access_token": "invented", "of_tomorrow": {"kept": [1, 2.5, None]}}
"""Fields that are nothing to the product. The CLI knows the first; what it does not know it drops when it writes."""


@pytest.fixture
def backend(fake_upstream: FakeUpstream) -> CodexBackend:
    """Stands where chatgpt.com and auth.openai.com do."""
    return CodexBackend(fake_upstream, says=SAYS)


@pytest.fixture
def cli(backend: CodexBackend, tmp_path: Path) -> Iterator[CodexCli]:
    """A Codex CLI with an empty HOME and an empty project; at the end it must have asked no other host."""
    binary = find_binary()
    if binary is None:
        absent = f"the Codex CLI is neither where CCR_ASGI_CODEX says nor under {INSTALLED}: run `make e2e`"
        if os.environ.get("CI_E2E_REQUIRED") == "1":
            pytest.fail(absent)
        pytest.skip(absent)
    home, project = tmp_path / "cli-home", tmp_path / "project"
    for folder in (home, home / ".codex", project):
        folder.mkdir(mode=0o700)
    yield CodexCli(binary, home, project, backend)
    assert not [request.target for request in backend.upstream.requests if request.method == "CONNECT"]


@pytest.fixture
def product(cli: CodexCli, backend: CodexBackend, tmp_path: Path) -> Iterator[RunningServer]:
    """The product as its users start it, with the CLI's login; its log must not hold a token of it."""
    codex = {
        "type": "openai-responses",
        "baseUrl": backend.responses_url,
        "tokenUrl": backend.token_url,
        "authFile": str(cli.auth_file),
    }
    with running_server({"providers": {"codex": codex}}, tmp_path=tmp_path) as server:
        yield server
        print(f"What the server said:\n{server.log()}")  # shown if the test failed
    assert not [secret for secret in backend.secrets if secret in server.log()]


def ask(product: RunningServer) -> str:
    """What the product answers to a request for Codex; anything but a message fails the test."""
    question = {"role": "user", "content": "Are the pears ripe?"}
    body = json.dumps({"model": "codex,gpt-6-sol", "max_tokens": 100, "messages": [question]}).encode()
    with RawClient(product.url) as client:
        answer = client.request("POST", "/v1/messages", [("content-type", "application/json")], body)
    assert answer.status == 200, answer.body
    return "".join(block["text"] for block in answer.json()["content"] if block["type"] == "text")


def assert_answered(run: Run) -> None:
    assert (run.exit_code, run.text) == (0, SAYS), run


def rotators(backend: CodexBackend) -> list[str]:
    """Who asked for new tokens, in order."""
    return [_who(request) for request in backend.refreshes]


def bearers(requests: Iterable[RecordedRequest], who: str) -> list[str]:
    """The access tokens that one of the two presented."""
    return [(request.header("authorization") or b"").decode()[7:] for request in requests if _who(request) == who]


def _who(request: RecordedRequest) -> str:
    return "cli" if (request.header("originator") or b"").startswith(b"codex") else "product"


def assert_login_is_current(cli: CodexCli, backend: CodexBackend) -> dict[str, Any]:
    """The file holds the newest tokens, is its owner's alone, and nothing lies half-written beside it."""
    login = cli.login()
    assert login["tokens"] == {**backend.tokens, "account_id": ACCOUNT_ID}
    assert stat.S_IMODE(cli.auth_file.stat().st_mode) == 0o600
    beside = {path.name for path in cli.auth_file.parent.glob("*auth*")}
    assert beside <= {"auth.json", "auth.lock", "auth.json.lock"}
    return login


def test_the_cli_goes_on_after_our_rotation(cli: CodexCli, product: RunningServer, backend: CodexBackend) -> None:
    cli.sign_in(backend.sign_in(life_s=EXPIRED_S) | FOREIGN)
    before = cli.login()
    assert ask(product) == SAYS
    after = assert_login_is_current(cli, backend)
    assert list(after) == list(before)
    assert {name: after[name] for name in FOREIGN} == FOREIGN
    assert after["last_refresh"] > before["last_refresh"]
    assert_answered(cli.run("Are the pears ripe?"))
    assert rotators(backend) == ["product"]
    assert bearers(backend.turns, "cli") == [backend.tokens["access_token"]]
    assert cli.login() == after


def test_we_go_on_after_the_clis_rotation(cli: CodexCli, product: RunningServer, backend: CodexBackend) -> None:
    cli.sign_in(backend.sign_in(life_s=IN_THE_CLIS_WINDOW_S) | FOREIGN)
    first = backend.tokens["access_token"]
    assert ask(product) == SAYS
    assert_answered(cli.run("Are the pears ripe?"))
    written = assert_login_is_current(cli, backend)
    assert ask(product) == SAYS
    assert rotators(backend) == ["cli"]
    assert bearers(backend.turns, "product") == [first, backend.tokens["access_token"]]
    assert cli.login() == written
    assert written["personal_access_token"] == FOREIGN["personal_access_token"]


def test_they_rotate_by_turns(cli: CodexCli, product: RunningServer, backend: CodexBackend) -> None:
    cli.sign_in(backend.sign_in(life_s=EXPIRED_S) | FOREIGN)
    for _ in range(2):
        backend.life_s = IN_THE_CLIS_WINDOW_S
        assert ask(product) == SAYS
        assert_login_is_current(cli, backend)
        backend.life_s = TEN_DAYS_S  # the CLI would rotate a short-lived token of its own again, without end
        assert_answered(cli.run("Are the pears ripe?"))
        assert_login_is_current(cli, backend)
        backend.revoke()
    assert ask(product) == SAYS
    login = assert_login_is_current(cli, backend)
    assert rotators(backend) == ["product", "cli", "product", "cli", "product"]
    assert login["personal_access_token"] == FOREIGN["personal_access_token"]


def test_a_login_that_is_a_link_stays_one(
    cli: CodexCli, product: RunningServer, backend: CodexBackend, tmp_path: Path
) -> None:
    cli.sign_in(backend.sign_in(life_s=EXPIRED_S))
    target = cli.auth_file.rename(tmp_path / "elsewhere.json")
    cli.auth_file.symlink_to(target)
    backend.life_s = IN_THE_CLIS_WINDOW_S
    assert ask(product) == SAYS
    backend.life_s = TEN_DAYS_S
    assert_answered(cli.run("Are the pears ripe?"))
    assert ask(product) == SAYS
    assert rotators(backend) == ["product", "cli"]
    assert_login_is_current(cli, backend)
    assert cli.auth_file.readlink() == target


def test_a_cli_in_the_middle_of_a_turn_takes_our_tokens(
    cli: CodexCli, product: RunningServer, backend: CodexBackend
) -> None:
    cli.sign_in(backend.sign_in())
    first, refused = backend.tokens["access_token"], Gate()
    backend.revoke()
    backend.hold_turns(refused)
    with cli.started("Are the pears ripe?") as running:
        assert refused.reached.wait()
        assert ask(product) == SAYS
        refused.open()
        assert_answered(running.finish())
    assert rotators(backend) == ["product"]
    assert set(bearers(backend.turns, "cli")) == {first, backend.tokens["access_token"]}
    assert_login_is_current(cli, backend)


def test_the_cli_redeems_first(cli: CodexCli, product: RunningServer, backend: CodexBackend) -> None:
    cli.sign_in(backend.sign_in(life_s=EXPIRED_S))
    redeemed, refused = Gate(), Gate()
    backend.hold_refreshes(redeemed, refused)
    with cli.started("Are the pears ripe?") as running, ThreadPoolExecutor(1) as beside:
        assert redeemed.reached.wait()
        answer = beside.submit(ask, product)
        assert refused.reached.wait()
        refused.open()
        assert backend.refreshes[1].answered.wait()
        redeemed.open()
        assert_answered(running.finish())
        assert answer.result() == SAYS
    assert rotators(backend) == ["cli", "product"]
    assert_login_is_current(cli, backend)


def test_we_redeem_first(cli: CodexCli, product: RunningServer, backend: CodexBackend) -> None:
    cli.sign_in(backend.sign_in(life_s=EXPIRED_S))
    redeemed, refused = Gate(), Gate()
    backend.hold_refreshes(redeemed, refused)
    with ThreadPoolExecutor(1) as beside:
        answer = beside.submit(ask, product)
        assert redeemed.reached.wait()
        with cli.started("Are the pears ripe?") as running:
            assert refused.reached.wait()
            redeemed.open()
            assert answer.result() == SAYS
            refused.open()
            assert_answered(running.finish())
    assert rotators(backend) == ["product", "cli"]
    assert_login_is_current(cli, backend)
