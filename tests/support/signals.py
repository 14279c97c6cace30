"""Events between a test and a server in another thread: nothing here sleeps and hopes."""

import asyncio
import threading

PATIENCE_S = 30.0
"""How long a test waits for something that must happen; never reached when it does."""


class Signal:
    """Happens once; threads wait with `wait`, coroutines of any loop with `wait_async`."""

    def __init__(self) -> None:
        self._happened = threading.Event()
        self._lock = threading.Lock()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def set(self) -> None:
        """It has happened: everyone who waits goes on."""
        with self._lock:
            self._happened.set()
            waiting, self._waiting = self._waiting, []
        for loop, event in waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._happened.is_set()

    def wait(self, timeout: float = PATIENCE_S) -> bool:
        """Block this thread until it happens; False if `timeout` seconds went by without it."""
        return self._happened.wait(timeout)

    async def wait_async(self, timeout: float | None = PATIENCE_S) -> bool:
        """Wait for it in a coroutine; False if `timeout` seconds went by without it (None: wait for ever)."""
        event = asyncio.Event()
        with self._lock:
            if self._happened.is_set():
                return True
            self._waiting.append((asyncio.get_running_loop(), event))
        try:
            async with asyncio.timeout(timeout):
                await event.wait()
        except TimeoutError:
            return False
        return True


class Gate:
    """A place in an answer where the upstream stops until the test lets it go on.

    `reached` happens when the upstream stands at the gate, all earlier pieces being sent.
    """

    def __init__(self) -> None:
        self.reached = Signal()
        self._opened = Signal()

    def open(self) -> None:
        """Let the upstream pass, now or when it comes."""
        self._opened.set()

    async def pass_through(self) -> None:
        """The upstream's side: say that it is here, and wait."""
        self.reached.set()
        await self._opened.wait_async(timeout=None)
