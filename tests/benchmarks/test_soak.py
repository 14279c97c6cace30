"""The soak test, shortened: every request of a mixed load leaves its row, and its connections are given back.

How long things take is left to `make soak`, on a machine that does nothing else.
"""

from pathlib import Path

import pytest
import uvloop

from benchmarks.growth import warm_up
from benchmarks.processes import module
from benchmarks.proxies import ours
from benchmarks.soak import CLIENTS, Soak, faults
from tests.support.server import read_rows

LENGTH_S = 5.0


@pytest.mark.timeout(180)
def test_a_short_soak_leaves_a_row_for_each_request(tmp_path: Path) -> None:
    with module("benchmarks.upstream") as upstream, ours()(upstream, tmp_path) as candidate:
        before, at_rest = warm_up(candidate), candidate.server.descriptors()
        soak = Soak(candidate, LENGTH_S)
        uvloop.run(soak.run())
        # Each client has a connection to us, and one to the provider; some of those rest for the next request.
        assert max(held for fifth in soak.fifths for held in fifth.descriptors) <= at_rest + 4 * CLIENTS
    (database,) = tmp_path.glob("usage-*.db")
    assert soak.requests > CLIENTS
    assert len(read_rows(database)) - before == soak.requests


def test_what_grows_is_told() -> None:
    names = ("first byte p99 ms", "RSS MB, most", "descriptors, most")
    steady, grown = dict.fromkeys(names, 100.0), dict.fromkeys(names, 130.0)
    assert faults([{**steady}, {**steady}, {**steady}], requests=3, stored=3) == []
    told = faults([{**steady}, {**steady}, {**grown}], requests=3, stored=2)
    assert [problem.partition(":")[0] for problem in told] == [*names, "rows"]
