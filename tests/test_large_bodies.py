"""A large body is worked on beside the event loop, and leaves the interpreter as it was."""

import asyncio
import gc
import sys
import threading

import pytest

from ccr_asgi.large_bodies import LARGE_BYTES, SWITCH_S, beside_the_loop


def state() -> tuple[bool, bool, bool]:
    """Whether this is the main thread, garbage is collected, and threads take turns quickly."""
    here = threading.current_thread() is threading.main_thread()
    return here, gc.isenabled(), sys.getswitchinterval() <= SWITCH_S


def refuse() -> None:
    raise LookupError("no")


async def test_a_small_body_is_done_at_once() -> None:
    assert await beside_the_loop(LARGE_BYTES - 1, state) == (True, True, False)


async def test_a_large_body_is_done_beside_the_loop() -> None:
    assert await beside_the_loop(LARGE_BYTES, state) == (False, False, True)
    assert state() == (True, True, False)


@pytest.mark.parametrize("size_bytes", [0, LARGE_BYTES])
async def test_what_is_raised_comes_back(size_bytes: int) -> None:
    with pytest.raises(LookupError, match="no"):
        await beside_the_loop(size_bytes, refuse)
    assert state() == (True, True, False)


async def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        await beside_the_loop(LARGE_BYTES, state)
        assert not gc.isenabled()
    finally:
        gc.enable()


async def test_the_loop_goes_on_meanwhile() -> None:
    goes_on = threading.Event()
    work = asyncio.ensure_future(beside_the_loop(LARGE_BYTES, lambda: goes_on.wait(30)))
    await asyncio.sleep(0)
    goes_on.set()
    assert await work
