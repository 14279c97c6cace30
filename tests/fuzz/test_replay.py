"""What the fuzzer found stays found: its inputs and the seeds go through every target."""

import pytest

from tests.fuzz.targets import FIXTURES, TARGETS

KEPT = sorted(path for path in (FIXTURES / "fuzz").glob("*/*") if path.is_file())


def test_the_inputs_that_were_kept() -> None:
    for path in KEPT:
        TARGETS[path.parent.name].check(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds(name: str) -> None:
    target = TARGETS[name]
    corpus = target.corpus()
    assert corpus
    for content in [*corpus, b"", b"\x00", b"\x00\x00", b"\x01\x00{}"]:
        target.check(content)


def test_a_kept_input_belongs_to_a_target() -> None:
    assert {path.parent.name for path in KEPT} <= TARGETS.keys()
