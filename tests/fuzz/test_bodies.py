"""Bodies that are nearly right, through the whole stack: a defect of ours would be a 500, and there is none."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import FIXTURES
from tests.integration.claude import CHAT_MODEL, THIRD_MODEL, World, new_session, providers, tag, world_in_a_thread
from tests.support.fake_upstream import FakeUpstream
from tests.support.raw_http import RawResponse

Path = tuple[str | int, ...]

BODIES = [json.loads(path.read_bytes()) for path in sorted(FIXTURES.glob("openai-*-requests/*/request.json"))]
WAYS = {
    "passthrough": "",
    "third party": tag(f"moonshot,{THIRD_MODEL}"),
    "chat": tag(f"cerebras,{CHAT_MODEL}"),
    "responses": tag("platform,gpt-5.5"),
}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world with one provider of every kind."""
    with FakeUpstream() as platform, FakeUpstream() as anthropic, FakeUpstream() as chat, FakeUpstream() as third:
        responses = {"type": "openai-responses", "baseUrl": f"{platform.url}/v1/responses", "apiKey": "invented-key"}
        config = {"providers": {**providers(anthropic, chat, third), "platform": responses}}
        with world_in_a_thread(tmp_path_factory.mktemp("world"), config) as running:
            yield running


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """The way to each value within a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from paths(inner, (*path, key))


def harmed(data: st.DataObject, document: Any) -> Any:
    """A copy of the document with some of its values replaced by others, or gone."""
    document = copy.deepcopy(document)
    for _ in range(data.draw(st.integers(1, 3))):
        if not (known := list(paths(document))):
            break
        *way, last = data.draw(st.sampled_from(known))
        holder = document
        for key in way:
            holder = holder[key]
        if data.draw(st.booleans()):
            holder[last] = data.draw(JUNK)
        else:
            del holder[last]
    return document


@pytest.mark.parametrize("way", WAYS)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_no_body_is_a_defect_of_ours(world: World, way: str, data: st.DataObject) -> None:
    document = harmed(data, data.draw(st.sampled_from(BODIES)))
    if isinstance(document, dict) and WAYS[way]:
        document["system"] = WAYS[way]
    session = new_session()
    response = world.post(json.dumps(document).encode(), session=session)
    assert response.status in (200, 400), response.body
    assert response.status == 200 or is_an_error(response)
    assert world.row(session)["status"] == response.status


def is_an_error(response: RawResponse) -> bool:
    """Whether it is one in Anthropic's form, with words in it."""
    document = response.json()
    return bool(document["type"] == "error" and document["error"]["message"])
