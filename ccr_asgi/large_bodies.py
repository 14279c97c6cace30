"""What takes its time with a large body, so that other streams hardly wait for it.

A conversion takes some 12 ms for a megabyte. In the event loop every other stream would wait that long; beside it they
wait for the interpreter's lock, which is handed over after `SWITCH_S`. One thread does it: several would take turns.
"""

import asyncio
import gc
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

LARGE_BYTES = 256 * 1024
"""Smaller bodies are done in the event loop, in less time than a thread would delay the others."""
SWITCH_S = 0.001
"""Python's own is 5 ms, and the event loop waits so long each time that it comes back from the operating system."""

T = TypeVar("T")
_thread = ThreadPoolExecutor(1, thread_name_prefix="large-body")


async def beside_the_loop(size_bytes: int, work: Callable[[], T]) -> T:
    """What `work` returns or raises; a body of that size decides where it is done."""
    if size_bytes < LARGE_BYTES:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_thread, partial(_done_considerately, work))


def _done_considerately(work: Callable[[], T]) -> T:
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(min(before_s, SWITCH_S))
    try:
        with _no_garbage_collection():
            return work()
    finally:
        sys.setswitchinterval(before_s)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep the collector away from tens of thousands of short-lived objects.

    It would take them for long-lived ones, and look through all objects of the process for them: 80 ms each time, in
    which every stream waits. They hold no cycles, and are gone when the work is done.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
