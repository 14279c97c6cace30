"""Every recorded answer, replayed in every way, for both kinds of client: the same message, or the same error."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats import golden
from tests.formats.chat_answers import machine
from tests.formats.golden import Case
from tests.support.sse_replay import splits

CASES = golden.load_cases("openai-chat", machine)
all_cases = golden.each(CASES)
sse_cases = golden.each([case for case in CASES if case.is_sse])
both_clients = pytest.mark.parametrize("streamed", [True, False], ids=["stream", "document"])


@all_cases
@both_clients
def test_a_replay_changes_nothing(case: Case, streamed: bool) -> None:
    golden.check_replays(case, streamed=streamed)


@all_cases
@both_clients
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_chunks_may_be_cut_anywhere(case: Case, streamed: bool, data: st.DataObject) -> None:
    case.check(case.run(data.draw(splits(case.answer)), streamed=streamed))


@all_cases
def test_what_the_wire_cannot_carry_is_told_beside_it(case: Case) -> None:
    golden.check_extra(case)


@sse_cases
def test_what_came_before_an_error_is_kept(case: Case) -> None:
    golden.check_content_before_error(case)


@sse_cases
@both_clients
def test_a_clean_end_after_any_event_is_a_message_or_an_error(case: Case, streamed: bool) -> None:
    golden.check_clean_ends(case, streamed=streamed)


@sse_cases
def test_a_break_after_any_event_is_an_error(case: Case) -> None:
    golden.check_breaks(case)


@sse_cases
def test_a_break_never_makes_a_document(case: Case) -> None:
    golden.check_no_broken_document(case)


@sse_cases
def test_every_piece_of_output_keeps_to_the_grammar_and_comes_at_once(case: Case) -> None:
    golden.check_every_piece(case)
