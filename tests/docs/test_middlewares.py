"""docs/middlewares.md: every class has its section, every option its row, and every example works."""

import inspect
import json
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import ccr_asgi
from ccr_asgi.errors import RequestError
from ccr_asgi.exchange import SCOPE_KEY
from ccr_asgi.transport import Http11Transport
from tests.support import asgi
from tests.support.fake_upstream import FakeUpstream
from tests.support.provider_answers import anthropic_message, chat_completion
from tests.support.raw_http import RawClient
from tests.support.server import read_rows, serve_app

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "middlewares.md").read_text()
SECTIONS: dict[str, str] = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
CLASSES = [name for name in ccr_asgi.__all__ if name[0].isupper()]
PREAMBLE, *_ = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
BODY = json.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}).encode()
COMPLETION = json.loads(chat_completion("Hello.").content)


class Host:
    """The reader's own routes: remember what reaches them."""

    def __init__(self, answer: Any = None) -> None:
        self.request: Request | None = None
        self._answer = answer if answer is not None else {}

    async def endpoint(self, request: Request) -> JSONResponse:
        await request.body()
        self.request = request
        return JSONResponse(self._answer)

    @property
    def scope(self) -> Any:
        assert self.request is not None
        return self.request.scope


@pytest.fixture
async def _closed_transports(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Ends the connections that an example leaves to the end of its program."""
    made: list[Http11Transport] = []

    def make() -> Http11Transport:
        made.append(Http11Transport())
        return made[-1]

    monkeypatch.setattr("ccr_asgi.upstream.Http11Transport", make)
    yield
    for transport in made:
        await transport.aclose()


def examples(section: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", SECTIONS[section], re.MULTILINE | re.DOTALL)


def app_of(section: str, host: Host, *, number: int = 0, after: Sequence[int] = (), upstream: str = "") -> asgi.App:
    """The `app` that a section's example makes, over the reader's routes; upstream URLs are led to `upstream`.

    Args:
        section: A heading of the page.
        host: Whose routes they are.
        number: Which example of the section.
        after: The examples that it goes on from.
        upstream: Stands in for the providers' own hosts.
    """
    code = "".join(examples(section)[each] for each in (*after, number))
    code = re.sub(r"https://api\.[a-z]+\.(com|ai)", upstream, code) if upstream else code
    space: dict[str, Any] = {"routes": [Route("/v1/messages", host.endpoint, methods=["POST"])]}
    exec(PREAMBLE + code, space)  # noqa: S102 -- the page's own code
    app: asgi.App = space["app"]
    return app


async def asked(app: asgi.App, *headers: tuple[str, str], body: bytes = BODY) -> asgi.Response:
    return await asgi.request(app, "POST", "/v1/messages", headers=headers, body=body)


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_a_section_with_all_its_options(name: str) -> None:
    parameters = inspect.signature(getattr(ccr_asgi, name).__init__).parameters.values()
    options = {parameter.name: parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", SECTIONS[name], re.MULTILINE))
    assert set(rows) == set(options)
    for option, told in rows.items():
        assert (told == "required") is (options[option].default is inspect.Parameter.empty)
    assert ("It has no options." in SECTIONS[name]) is (not options)
    assert "- Reads: " in SECTIONS[name]
    assert "- Adds: " in SECTIONS[name]
    assert examples(name)


@pytest.mark.parametrize("name", CLASSES)
def test_the_table_leads_to_every_class(name: str) -> None:
    assert f"[{name}](#{name.lower()})" in PAGE


async def test_the_guards_example() -> None:
    host = Host()
    app = app_of("GuardMiddleware", host)
    assert (await asked(app, ("host", "ccr.example"), ("x-ccr-key", "a long secret"))).status == 200
    assert "x-ccr-key" not in dict(host.scope["headers"])
    assert (await asked(app, ("host", "evil.example"))).status == 403


async def test_the_captures_example(capsys: pytest.CaptureFixture[str]) -> None:
    message = json.loads(anthropic_message("Hello.", model="claude-x").content)
    await asked(app_of("UsageCaptureMiddleware", Host(message)))
    printed = capsys.readouterr().out
    assert printed.startswith("claude-x Tokens(input=11")
    assert printed.endswith(" ok\n")


def test_the_captures_example_with_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = json.loads(anthropic_message("Hello.", model="claude-haiku-4-5").content)
    with (
        serve_app(app_of("UsageCaptureMiddleware", Host(message), number=1)) as served,
        RawClient(served.url) as client,
    ):
        client.request("POST", "/v1/messages", [], BODY)
    (row,) = read_rows(tmp_path / "usage.db")
    assert (row["model"], row["input_tokens"], row["outcome"]) == ("claude-haiku-4-5", 11, "ok")
    assert row["list_usd"] is not None


async def test_the_captures_example_that_reads_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = app_of("UsageCaptureMiddleware", Host(), number=2, after=[1])
    async with asgi.lifespan(app):
        await asked(app)
    (row,) = read_rows(tmp_path / "usage.db")
    assert (row["requested_model"], row["streamed"]) == ("m", 0)


@pytest.mark.parametrize(
    ("model", "usd"), [("claude-haiku-4-5", 11e-6 + 7 * 5e-6), ("my-model", 11 * 0.5e-6 + 7 * 2e-6), ("nobodys", None)]
)
async def test_the_captures_example_with_prices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, usd: float | None
) -> None:
    monkeypatch.chdir(tmp_path)
    tokens = {"input_tokens": 11, "output_tokens": 7}
    message = json.loads(anthropic_message("Hello.", model=model, usage=tokens).content)
    app = app_of("UsageCaptureMiddleware", Host(message), number=3, after=[1])
    async with asgi.lifespan(app):
        await asked(app)
    (row,) = read_rows(tmp_path / "usage.db")
    assert (row["provider"], row["billed_usd"]) == ("my-app", usd if usd is None else pytest.approx(usd, abs=1e-6))


async def test_the_tracings_example() -> None:
    host = Host(json.loads(anthropic_message("Hello.").content))
    assert (await asked(app_of("TracingMiddleware", host))).status == 200
    assert host.scope[SCOPE_KEY].usage.outcome == "ok"


async def test_the_errors_example() -> None:
    class Failing(Host):
        async def endpoint(self, request: Request) -> JSONResponse:
            raise RequestError("what happened")

    response = await asked(app_of("ErrorMiddleware", Failing()))
    assert (response.status, json.loads(response.body)["error"]["message"]) == (400, "what happened")


async def test_the_tag_extractions_example() -> None:
    host = Host()
    app = app_of("TagExtractionMiddleware", host)
    assert (await asked(app)).status == 200
    assert host.scope[SCOPE_KEY].requested_model == "m"
    assert (await asked(app, body=b"{}")).status == 400


async def test_the_routings_example() -> None:
    host = Host()
    app = app_of("RoutingMiddleware", host)
    body = {"model": "claude-x", "system": "<CCR-SUBAGENT-MODEL>local,qwen</CCR-SUBAGENT-MODEL>"}
    assert (await asked(app, body=json.dumps(body).encode())).status == 200
    route = host.scope[SCOPE_KEY].route
    assert (route.provider.name, route.model) == ("local", "qwen")
    refused = await asked(app, body=b'{"model": "nobody,m"}')
    assert (refused.status, b"local" in refused.body) == (400, True)


async def test_the_conversions_example() -> None:
    host = Host(COMPLETION)
    response = await asked(app_of("FormatConversionMiddleware", host))
    assert json.loads(response.body)["content"] == [{"type": "text", "text": "Hello."}]
    assert host.request is not None
    assert "max_completion_tokens" in await host.request.json()


async def test_the_credentials_example() -> None:
    host = Host()
    await asked(app_of("AuthInjectionMiddleware", host), ("authorization", "Bearer clients"), ("cookie", "c"))
    headers = dict(host.scope["headers"])
    assert headers[b"authorization"] == b"Bearer the provider's key"
    assert b"cookie" not in headers


@pytest.mark.usefixtures("_closed_transports")
async def test_the_upstreams_example(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script(anthropic_message("Hello."))
    response = await asked(
        app_of("UpstreamApp", Host(), upstream=fake_upstream.url), ("content-length", str(len(BODY)))
    )
    assert json.loads(response.body)["content"][0]["text"] == "Hello."


@pytest.mark.usefixtures("_closed_transports")
async def test_the_example_of_three(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script(chat_completion("Hello."))
    app = app_of("Several together", Host(), number=0, upstream=fake_upstream.url)
    response = await asked(app, ("authorization", "Bearer clients"))
    assert json.loads(response.body)["content"] == [{"type": "text", "text": "Hello."}]
    (sent,) = fake_upstream.wait_for_requests(1)
    assert sent.header("authorization") == b"Bearer the provider's key"


async def test_the_example_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    app = app_of("Several together", Host(), number=1)
    async with asgi.lifespan(app):
        assert (await asgi.request(app, path="/healthz")).status == 200
