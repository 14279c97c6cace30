"""The end of a server: requests that still run some time after SIGTERM or Ctrl-C are ended, whichever server runs us.

uvicorn waits for them for ever unless it is told otherwise; granian until it kills its worker, and the rows with it.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger(__name__)

ENDING = (signal.SIGTERM, signal.SIGINT)
"""What a supervisor sends, and what Ctrl-C does."""


class Drain:
    """Knows the requests that run in this process, and cancels them when they have had their time.

    Args:
        drain_s: How many seconds they have after the signal; asked when it comes.
    """

    def __init__(self, drain_s: Callable[[], float]) -> None:
        self._drain_s = drain_s
        self._running: set[asyncio.Task[Any]] = set()
        self._ended = False

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Have `app` serve one request, to its end or until its time is over."""
        task = asyncio.current_task()
        if task is None:  # granian drives requests by itself, and cannot cancel them
            await asyncio.ensure_future(self.run(app, scope, receive, send))
            return
        self._running.add(task)
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            if not self._ended:
                raise
            logger.warning("A request was ended, for the server stops.")
        finally:
            self._running.discard(task)

    def await_signals(self) -> None:
        """Have the running loop's requests ended in time. Called once the server has set up its own handlers.

        In a thread of some other program nothing is done: signals are not ours there.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        servers_own = {number: signal.getsignal(number) for number in ENDING}

        def on_signal(number: int, frame: FrameType | None) -> None:
            if callable(own := servers_own[signal.Signals(number)]):
                own(number, frame)
            loop.call_soon_threadsafe(loop.call_later, self._drain_s(), self._end)

        for number in ENDING:
            signal.signal(number, on_signal)

    def _end(self) -> None:
        self._ended = True
        for task in self._running:
            task.cancel()
