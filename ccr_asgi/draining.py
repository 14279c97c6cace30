"""The end of a server: requests that still run some time after SIGTERM are ended, whichever server runs us.

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


class Drain:
    """Knows the requests that run in this process, and cancels them when they have had their time.

    Args:
        drain_s: How many seconds they have after SIGTERM; asked when it comes.
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

    def await_sigterm(self) -> None:
        """Have the running loop's requests ended in time. Called once the server has set up its own handler.

        In a thread of some other program nothing is done: signals are not ours there.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        servers_own = signal.getsignal(signal.SIGTERM)

        def on_sigterm(number: int, frame: FrameType | None) -> None:
            if callable(servers_own):
                servers_own(number, frame)
            loop.call_soon_threadsafe(loop.call_later, self._drain_s(), self._end)

        signal.signal(signal.SIGTERM, on_sigterm)

    def _end(self) -> None:
        self._ended = True
        for task in self._running:
            task.cancel()
