"""Token estimates."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.errors import RequestError
from ccr_asgi.formats.count_tokens import (
    DOCUMENT_TOKENS,
    IMAGE_TOKENS,
    MESSAGE_TOKENS,
    SAMPLED_ABOVE_CHARS,
    TALLIED_AT_CHARS,
    TOOL_TOKENS,
    TokenTally,
    count_request,
    estimate_tokens,
)
from tests.formats.requests import PDF, assistant, body, image, result, text, tool, use, user

PROSE = (
    "The harbour was quiet when the last ferry left, and the lamps along the quay came on one by one. Nobody had told "
    "the keeper that the timetable had changed; he waited for the eight o'clock boat until the rain drove him inside. "
)
CODE = (
    "def merge(left: list[int], right: list[int]) -> list[int]:\n    merged = []\n    while left and right:\n"
    "        source = left if left[0] <= right[0] else right\n        merged.append(source.pop(0))\n"
    "    return merged + left + right\n"
)
HTML = (
    '<table class="rates"><tr><th scope="col">Month</th><th>Rate</th></tr>\n<tr><td>May</td><td>3.25&nbsp;%</td></tr>\n'
    '</table>\n<p><a href="/archive/index.html" rel="prev">Older figures</a></p>\n'
)
CHINESE = "港口很安静,最后一班渡轮已经离开,码头上的灯一盏一盏地亮了起来。没有人告诉看守人时刻表已经改变。"

O200K = {PROSE: 49, CODE: 59, HTML: 67, CHINESE: 42}
"""What o200k_base makes of each."""


@pytest.mark.parametrize("sample", list(O200K), ids=["prose", "code", "html", "chinese"])
def test_an_estimate_is_near_the_tokenizer(sample: str) -> None:
    assert estimate_tokens(sample) == pytest.approx(O200K[sample], rel=0.13)


@pytest.mark.parametrize("sample", list(O200K), ids=["prose", "code", "html", "chinese"])
def test_a_long_text_is_judged_by_parts_of_it(sample: str) -> None:
    times = 3 * SAMPLED_ABOVE_CHARS // len(sample)
    assert estimate_tokens(sample * times) == pytest.approx(estimate_tokens(sample) * times, rel=0.03)


def test_the_parts_cover_the_whole_length() -> None:
    half = PROSE * (2 * SAMPLED_ABOVE_CHARS // len(PROSE))
    other = CHINESE * (len(half) // len(CHINESE))
    expected = estimate_tokens(half) + estimate_tokens(other)
    assert estimate_tokens(half + other) == pytest.approx(expected, rel=0.1)


def test_nothing_is_no_token() -> None:
    assert estimate_tokens("") == 0


@pytest.mark.parametrize(
    ("sample", "tokens"),
    [
        ("hello", 1),
        ("hello World", 2),
        ("a" * 9, 1),
        ("a" * 10, 2),
        ("ABCD", 1),
        ("ABCDE", 2),
        ("123", 1),
        ("1234", 2),
        ("();\n", 1),
        ("();{", 2),
        ("\n\n", 2),
        ("a    b", 3),
        ("éàè", 1),
        ("α" * 24, 10),
        ("α" * 25, 10),
        ("ж" * 34, 10),
        ("ש" * 20, 10),
        ("ع" * 25, 10),
        ("क" * 25, 10),
        ("ก" * 20, 10),
        ("あ" * 16, 10),
        ("港" * 122, 100),
        ("한" * 15, 10),
        ("🎉" * 10, 10),
        ("hello " + "港" * 122 + "🎉", 102),
        ("\0" * 99, 0),
    ],
)
def test_each_script_has_its_rate(sample: str, tokens: int) -> None:
    assert estimate_tokens(sample) == tokens


def test_a_text_of_the_sampled_length_is_still_read_whole() -> None:
    words = "abcde " * 11_000  # the parts of a longer text cut words in two, which then count twice
    assert estimate_tokens(words[:65_536]) == 10_923
    assert estimate_tokens(words[:65_537]) > 10_930


@pytest.mark.parametrize("part", range(32))
def test_thirty_two_evenly_spaced_parts_are_read(part: int) -> None:
    chars, part_chars = 3 * 65_536, 2_048
    start = round(part * (chars - part_chars) / 31)
    marked = "\0" * start + "港" * part_chars + "\0" * (chars - start - part_chars)
    assert estimate_tokens(marked) == 3 * 1_679


def test_the_parts_stand_for_the_whole_to_the_nearest_token() -> None:
    assert estimate_tokens("港" * 2_048 + "\0" * 97_952) == 2_562  # 1679 tokens in 65 536 of 100 000 characters


@settings(deadline=None)
@given(st.text(st.characters(), max_size=50))
def test_any_text_has_an_estimate(sample: str) -> None:
    assert 0 <= estimate_tokens(sample) <= 2 * len(sample)


def counted(*messages: dict[str, Any], **fields: Any) -> int:
    return count_request(body(*messages, **fields))


PLAIN = counted(user("hi"))


def test_a_message_a_tool_and_what_cannot_be_read_count_exactly() -> None:
    assert PLAIN == 2 * 4 + 1
    assert counted(user("hi"), system="a b c d e f g h") == PLAIN + 9
    assert counted(user("hi"), user("hi")) == 3 * 4 + 3
    schema = estimate_tokens(json.dumps(tool("T")["input_schema"], separators=(",", ":")))
    for name in ("A", "T"):
        assert counted(user("hi"), tools=[tool(name)]) == PLAIN + 10 + 3 + schema
    assert counted(user("hi", image())) == PLAIN + 1_200
    for kind in ("base64", "url", "file"):
        assert counted(user("hi", {"type": "document", "source": {"type": kind, "data": PROSE}})) == PLAIN + 3_000
    assert counted(assistant("hi", use("1", "T"))) == PLAIN + 3
    assert counted(assistant("hi", {"type": "tool_use"})) == PLAIN + 1
    assert count_request({"messages": [], "tools": [{"name": "T"}, {"name": "A"}]}) == 4 + 2 * 10 + 6


def test_every_text_counts() -> None:
    words = estimate_tokens(PROSE)
    for fields in (
        {"system": PROSE},
        {"system": [text(PROSE)]},
        {"tools": [tool("T", description=PROSE)]},
        {"tools": [{"name": "T", "input_schema": {"type": "object", "description": PROSE}}]},
    ):
        assert counted(user("hi"), **fields) >= PLAIN + words
    for message in (
        user(PROSE),
        user(text(PROSE)),
        assistant(PROSE),
        assistant(use("1", PROSE)),
        assistant(use("1", given=PROSE)),
        user(result("1", PROSE)),
        user(result("1", text(PROSE), image())),
        user({"type": "document", "source": {"type": "text", "data": PROSE}}),
        user({"type": "search_result", "title": "t", "source": "s", "content": [text(PROSE)]}),
    ):
        assert counted(message) >= words


def test_a_message_and_a_tool_have_their_overhead() -> None:
    assert counted(user(""), user("")) - counted(user("")) == pytest.approx(MESSAGE_TOKENS, abs=1)
    assert counted(tools=[tool("T")]) - PLAIN > TOOL_TOKENS


def test_images_and_documents_are_constants() -> None:
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF * 1000}}
    assert counted(user("hi", image())) - PLAIN == pytest.approx(IMAGE_TOKENS, abs=2)
    assert counted(user("hi", image("https://example.test/" + "x" * 999))) - PLAIN == pytest.approx(IMAGE_TOKENS, abs=2)
    assert counted(user("hi", pdf)) - PLAIN == pytest.approx(DOCUMENT_TOKENS, abs=2)


def test_what_is_left_out_is_not_counted() -> None:
    thought = {"type": "thinking", "thinking": PROSE, "signature": "s"}
    found = {"type": "web_search_tool_result", "tool_use_id": "1", "content": [text(PROSE)]}
    assert counted(assistant("hi", thought, found)) == PLAIN
    assert counted(user("hi"), tools=[tool("DeferredToolPlaceholder", description=PROSE)]) == PLAIN
    assert counted(user("hi"), system=[text(f"x-anthropic-billing-header: {PROSE}")]) == PLAIN


@pytest.mark.parametrize("odd", [None, 5, [None, 7], {"type": ["image"]}, [{"type": 5, "text": 5}], {"name": {}}])
def test_odd_content_counts_as_nothing(odd: Any) -> None:
    assert count_request({"messages": [{"role": "user", "content": odd}], "tools": [odd, {"name": 5}]}) < 60
    assert count_request({"messages": [odd], "tools": odd}) < 60


def test_nesting_does_not_exhaust_the_stack() -> None:
    deep: Any = "hi"
    for _ in range(5000):
        deep = [{"content": deep}]
    assert count_request({"messages": deep}) > 0


@pytest.mark.parametrize("wrong", [{}, {"messages": "hi"}, {"messages": [], "system": 5}])
def test_what_is_no_request_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="accepted: "):
        count_request(wrong)


def test_no_field_is_changed() -> None:
    request = body(user("hi", image()), system=[text("a")], tools=[tool("T")])
    before = json.dumps(request)
    count_request(request)
    assert json.dumps(request) == before


def test_a_tally_is_close_to_the_estimate_of_the_whole_and_keeps_little_of_it() -> None:
    text = "The quick brown fox jumps over 13 lazy dogs; " * 4000
    tally = TokenTally()
    for start in range(0, len(text), 100):
        tally.add(text[start : start + 100])
    assert tally.chars == len(text)
    assert tally.tokens == pytest.approx(estimate_tokens(text), rel=0.02)
    assert sum(map(len, tally._pieces)) <= TALLIED_AT_CHARS


def test_a_tally_counts_on_after_it_let_go_of_its_pieces() -> None:
    tally = TokenTally()
    assert (tally.chars, tally.tokens) == (0, 0)
    for again in range(1, 4):
        tally.add("hello ")
        tally.add("\0" * (TALLIED_AT_CHARS - 6))
        assert tally._pieces
        tally.add("\0")
        assert tally._pieces == []
        assert (tally.chars, tally.tokens) == (again * (TALLIED_AT_CHARS + 1), again)
