"""One job at a time for all who wait for it."""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec

_flying: set[asyncio.Task[None]] = set()
"""Strong references: an event loop holds its tasks by weak ones, and nobody else may be left to hold them."""


P = ParamSpec("P")


class SingleFlight(Generic[P]):
    """Runs a job in a task of its own: who joins while it runs waits for that one, and who leaves does not end it.

    The task's context is empty, since it belongs to none of the requests that wait for it. For one event loop.

    Args:
        job: What to run, with the arguments of whoever makes it start.
    """

    def __init__(self, job: Callable[P, Coroutine[Any, Any, None]]) -> None:
        self._job = job
        self._task: asyncio.Task[None] | None = None

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The job's run, while there is one."""
        return self._task

    def start(self, *args: P.args, **kwargs: P.kwargs) -> asyncio.Task[None]:
        """Have the job run, if it does not already."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(
                self._job(*args, **kwargs), context=contextvars.Context()
            )
            _flying.add(self._task)
            self._task.add_done_callback(self._landed)
        return self._task

    def _landed(self, task: asyncio.Task[None]) -> None:
        _flying.discard(task)
        if self._task is task:
            self._task = None


async def joined(flight: asyncio.Task[None], patience_s: float | None = None) -> None:
    """Wait for a flight, `patience_s` seconds at most; raises what it raised."""
    done, _ = await asyncio.wait({flight}, timeout=patience_s)
    if done:
        flight.result()
