"""A loop whose clock a test moves on, so that nobody waits for a timeout and a slow machine meets none."""

import asyncio


class SkippingLoop(asyncio.SelectorEventLoop):
    """asyncio's own event loop; `skip()` lets seconds go by that nobody waits for."""

    _skipped_s = 0.0

    def time(self) -> float:
        """Seconds, as every timer of the loop counts them."""
        return super().time() + self._skipped_s

    async def skip(self, seconds: float) -> None:
        """Move the clock on; return when every timer that is due by then has been called."""
        self._skipped_s += seconds
        reached = asyncio.Event()
        self.call_later(0, reached.set)  # behind all that is due: timers are called in their order
        await reached.wait()


async def skip(seconds: float) -> None:
    """Move the clock of the running `SkippingLoop` on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SkippingLoop)
    await loop.skip(seconds)
