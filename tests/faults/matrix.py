"""The faults that the product is held to, what is expected of it, and the table of what was seen.

A test names its fault with `@pytest.mark.fault("name")`. Where a test of another folder shows a fault already, its node
id stands here instead of a second copy; `python -m tests.faults` runs both.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

IT = "tests/integration"


@dataclass(frozen=True)
class Fault:
    """One row of the table.

    Attributes:
        expected: What must be seen.
        elsewhere: Node ids of tests of other folders that show it, as pytest takes them on its command line.
    """

    expected: str
    elsewhere: tuple[str, ...] = ()


FAULTS: dict[str, Fault] = {
    # What a provider may answer
    "compressed answer": Fault(
        "goes through byte for byte, is converted, is counted",
        (
            f"{IT}/test_passthrough.py::test_a_compressed_answer_goes_through_and_is_counted",
            f"{IT}/test_streaming.py::test_a_compressed_stream_is_converted",
        ),
    ),
    "cached and absent usage": Fault("cache reads and writes apart; an absent usage is NULL or marked as estimated"),
    "redirect": Fault(
        "handed on, never followed",
        (f"{IT}/test_faults.py::test_a_redirect_is_not_followed_by_a_conversion",),
    ),
    "redirect on the passthrough way": Fault("the client gets the 3xx itself, nobody is asked at its location"),
    "Set-Cookie": Fault("not kept, not sent back", (f"{IT}/test_passthrough.py::test_a_cookie_is_not_kept",)),
    "echoed key": Fault("blanked out", (f"{IT}/test_routing.py::test_a_provider_s_key_never_comes_back",)),
    "hop-by-hop fields": Fault(
        "stay on their side, both ways", (f"{IT}/test_passthrough.py::test_hop_by_hop_fields_stay_here",)
    ),
    "failure before the first byte": Fault(
        "502 in Anthropic's form; at most 3 tries; the next request is served",
        (
            f"{IT}/test_faults.py::test_a_refused_connection_is_a_502",
            f"{IT}/test_faults.py::test_no_answer_is_a_502",
            f"{IT}/test_faults.py::test_a_connection_that_closes_before_it_answers_is_tried_again",
        ),
    ),
    "failure after the first byte": Fault(
        "`event: error` between events, else a cut; no second try; the tokens seen are in the row",
        (
            f"{IT}/test_faults.py::test_a_passthrough_cut_between_two_events_ends_in_an_error_event",
            f"{IT}/test_faults.py::test_a_passthrough_cut_inside_an_event_is_cut",
            f"{IT}/test_faults.py::test_a_compressed_passthrough_that_is_cut_is_cut",
            f"{IT}/test_faults.py::test_a_conversion_that_is_cut_closes_its_block_and_says_so",
        ),
    ),
    "cut answer that is not streamed": Fault(
        "passthrough: cut; converted: 502",
        (
            f"{IT}/test_faults.py::test_a_whole_answer_that_is_cut_is_cut",
            f"{IT}/test_faults.py::test_a_conversion_into_a_whole_answer_that_is_cut_is_a_502",
        ),
    ),
    "429": Fault(
        "goes out at once with its retry-after, asked once",
        (f"{IT}/test_faults.py::test_429_goes_out_at_once_with_its_retry_after",),
    ),
    "HTML error page": Fault("never shown", (f"{IT}/test_faults.py::test_a_page_is_never_shown",)),
    "long error text": Fault("at most 64 KB are read and 500 characters shown"),
    "junk among the events": Fault(
        "passed over, or a 502 if there is no message",
        (
            f"{IT}/test_faults.py::test_an_answer_without_a_message_is_a_502",
            f"{IT}/test_faults.py::test_garbage_between_good_events_is_passed_over",
        ),
    ),
    "stream of single bytes": Fault(
        "converted like any other", (f"{IT}/test_streaming.py::test_a_stream_that_drips_is_converted_like_any_other",)
    ),
    "error event in a stream": Fault(
        "an error event for the client, an error in the row",
        (
            f"{IT}/test_faults.py::test_an_error_object_in_a_stream_is_an_error_event",
            f"{IT}/test_faults.py::test_an_error_object_at_once_is_an_error_status",
        ),
    ),
    "error event of Anthropic's": Fault("goes through byte for byte, once; an error in the row"),
    "wrong content type": Fault("read for what it is, or a 502; never a faked message"),
    "8 MB event": Fault("through in 15 s at most, with less than 120 MB"),
    "line of more than 16 MB": Fault("an error for the client of a conversion; the passthrough goes on"),
    "gzip bomb from a provider": Fault("memory stays bounded; passthrough goes on, a conversion fails cleanly"),
    # Time
    "slow drip": Fault("no limit on a whole stream: each byte begins the count anew"),
    "stall before the first byte": Fault("504 timeout_error after timeouts.idleS"),
    "stall after the first byte": Fault("`event: error` of timeout_error after timeouts.idleS"),
    "nobody answers the connect": Fault("504 after timeouts.connectS"),
    "150 stalled streams": Fault("others are served at once, on the same provider too; no descriptor stays"),
    "stale keep-alive": Fault(
        "never the client's trouble",
        (f"{IT}/test_faults.py::test_a_stale_connection_is_never_the_client_s_trouble",),
    ),
    "clock jump": Fault("rows and durations stay sane, no refresh storm"),
    # The client
    "disconnect in every place": Fault("upstream ended in 1 s, a cancelled row in 3 s", (f"{IT}/test_disconnect.py",)),
    "slow reader": Fault(
        "40 MB at most for 64 MB, nothing lost",
        (f"{IT}/test_streaming.py::test_a_client_that_stops_reading_makes_its_upstream_wait",),
    ),
    "60 slowloris connections": Fault("others are served in a second"),
    "pipelining": Fault("answers in order, each its own"),
    "Expect: 100-continue": Fault(
        "100 first, the body after it", (f"{IT}/test_passthrough.py::test_expect_100_continue",)
    ),
    "19 unusable bodies": Fault("400 invalid_request_error, no upstream contact, a row"),
    "20 wrongly typed fields": Fault("400 that names the field on the converted way, never 500"),
    "a name that leads nowhere": Fault("400 that names the choices, no upstream contact, a row"),
    "surrogates and controls": Fault("no 500, no broken JSON, the next request is served"),
    "50 MB body": Fault("413 request_too_large, declared or chunked, before it is read in"),
    "compressed request": Fault("415 invalid_request_error, never inflated"),
    "traversal and odd methods": Fault("404 or 405 in Anthropic's form, no upstream contact, no file"),
    "framing attacks": Fault("400 and close; nothing smuggled"),
    "1 MB of headers": Fault("431 (or the server's own 400), others served"),
    "CRLF in model or query": Fault("no header or line is forged"),
    "upstream steering": Fault("no header, target or body decides whom we ask"),
    # Who gets in
    "rebinding": Fault("403 permission_error on every route, no upstream contact"),
    "cross-origin": Fault("403 permission_error, no upstream contact, no CORS header"),
    "a page in a real browser": Fault("neither another origin nor a rebinding host can read or spend"),
    "peer from elsewhere": Fault("403 without a key; the key never goes on"),
    "stored XSS": Fault("escaped on every page and in JSON; CSP without inline script"),
    "SQL in filters": Fault("bound, or 400; the table is still there"),
    "log forging": Fault("control characters are escaped, one record is one line"),
    "planted secrets": Fault("in no foreign request, answer, row, log, traceback, page or command line"),
    # Load
    "200 streams": Fault("token totals exact, visible in 5 s"),
    "half of 200 leaving": Fault("no leak of tasks, descriptors, memory; every row there"),
    "300 requests": Fault("memory grows by less than 12 MB"),
    "no descriptors left": Fault("refused or left waiting; served again when there are some"),
    # The login
    "refresh stampede": Fault(
        "one refresh for 50 requests of 2 processes",
        (
            f"{IT}/test_codex_login.py::test_fifty_requests_of_two_processes_make_one_refresh",
            f"{IT}/test_codex_login.py::test_fifty_refused_requests_of_two_processes_make_one_refresh",
        ),
    ),
    "refresh refused": Fault(
        "401 with what to run; a new login holds at once",
        (f"{IT}/test_codex_login.py::test_a_login_that_has_ended_is_told_and_a_new_one_holds_at_once",),
    ),
    "client leaving during a refresh": Fault(
        "no token is lost",
        (
            f"{IT}/test_codex_login.py::test_a_client_that_leaves_during_the_refresh_loses_no_token",
            f"{IT}/test_codex_login.py::test_a_server_that_is_stopped_during_the_refresh_loses_no_token",
        ),
    ),
    "refresh that hangs": Fault("other providers are not delayed"),
    "rotation by the CLI": Fault("the file's new token is used, nothing refreshed"),
    # The end, and the database
    "SIGTERM with a live stream": Fault(
        "no new connection, the stream ends whole, its row is there",
        (f"{IT}/test_lifecycle.py::test_sigterm_lets_a_running_stream_end",),
    ),
    "SIGTERM with a stalled stream": Fault(
        "out after timeouts.drainS, the row is there",
        (f"{IT}/test_lifecycle.py::test_a_stalled_stream_holds_the_end_up_for_drain_s",),
    ),
    "kill -9 under load": Fault("at most the last 2 s of rows are lost, the file is whole"),
    "kill in mid-write": Fault("the file is whole, it is written on after the next start"),
    "lock of 6 s": Fault("no request waits, no row is lost"),
    "damaged database": Fault(
        "served, said, the file kept",
        (f"{IT}/test_lifecycle.py::test_a_damaged_database_costs_no_request_and_is_kept",),
    ),
    "PostgreSQL down for 30 s": Fault(
        "traffic is served; every row arrives afterwards; not there at the start, the same",
        (
            "tests/postgresql/test_outages.py::test_it_goes_away_and_comes_back",
            "tests/postgresql/test_outages.py::test_it_is_not_there_at_the_start",
        ),
    ),
    "unwritable database": Fault("served, said, the file kept"),
    "disk full": Fault("served, said; rows come when there is room"),
    "8 workers on a fresh database": Fault("migrated once, every row there"),
    "file modes and pragmas": Fault("0600, WAL"),
    "mounted under a prefix": Fault("as alone", (f"{IT}/test_lifecycle.py::test_mounted_in_another_application",)),
}


def elsewhere() -> Iterator[str]:
    """The node ids of the tests of other folders."""
    for fault in FAULTS.values():
        yield from fault.elsewhere


def fault_of(node_id: str) -> str | None:
    """The fault that a test of another folder shows."""
    for name, fault in FAULTS.items():
        if any(node_id == known or node_id.startswith((f"{known}[", f"{known}::")) for known in fault.elsewhere):
            return name
    return None


@dataclass
class Seen:
    """What the tests of one fault under one server have seen."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if self.failed:
            return f"FAILED {self.failed} of {self.failed + self.passed}"
        if self.skipped or not self.passed:
            return "NOT RUN"
        return "; ".join(dict.fromkeys(self.notes)) or f"so it is ({self.passed})"


class Table:
    """Gathers what was seen; rows in the order of `FAULTS`, one line for each server that was asked."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, Seen]] = defaultdict(lambda: defaultdict(Seen))

    def add(self, fault: str, server: str, outcome: str, notes: Iterable[str] = ()) -> None:
        """Count one test; `outcome` is pytest's: passed, failed or skipped."""
        seen = self._seen[fault][server]
        setattr(seen, outcome, getattr(seen, outcome) + 1)
        seen.notes += notes

    @property
    def incomplete(self) -> list[str]:
        """The faults that no test has shown."""
        return [
            name
            for name in FAULTS
            if not self._seen[name] or any(str(seen) == "NOT RUN" for seen in self._seen[name].values())
        ]

    def lines(self) -> Iterator[str]:
        """The table as text."""
        name_width = max(map(len, FAULTS))
        expected_width = max(len(fault.expected) for fault in FAULTS.values())
        yield f"{'fault':{name_width}} | {'expected':{expected_width}} | seen"
        yield f"{'-' * name_width}-+-{'-' * expected_width}-+-{'-' * 40}"
        for name, fault in FAULTS.items():
            first = f"{name:{name_width}} | {fault.expected:{expected_width}} | "
            servers = self._seen[name] or {"": Seen()}
            for server, seen in servers.items():
                yield first + (f"{server}: {seen}" if server else str(seen))
                first = f"{'':{name_width}} | {'':{expected_width}} | "
