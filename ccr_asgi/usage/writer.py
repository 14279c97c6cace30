"""The one task of a process that writes usage rows: requests put them on a queue and go on.

A row stays at the head of the queue until the database has it. So nothing is lost when a commit fails or the task is
cancelled in the middle of one, `queued` is the whole truth about what a `kill -9` would lose, and storing twice is
harmless, since the store skips an id that it has.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context
from itertools import islice
from logging import getLogger

from ccr_asgi.usage.errors import StoreUnavailable
from ccr_asgi.usage.record import UsageRecord

logger = getLogger(__name__)

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 1.0


class UsageWriter:
    """Stores the rows it is given, in groups, beside the traffic.

    All methods belong to the event loop's thread.

    Args:
        insert: Stores rows in one transaction, all or none. It raises `StoreUnavailable` where a later try may
            succeed; after any other exception the rows are tried one by one, and those that fail again are given up.
        max_queue: Rows that wait; further ones are dropped and counted.
        commit_interval_s: How long a row waits for others before they are stored together.
        max_batch: Rows in one transaction.

    Attributes:
        written: Rows that the database has.
        dropped: Rows refused since the queue was full.
        failed: Rows given up since the database could not take their values.
    """

    def __init__(
        self,
        insert: Callable[[Sequence[UsageRecord]], Awaitable[None]],
        *,
        max_queue: int = 10_000,
        commit_interval_s: float = 0.25,
        max_batch: int = 500,
    ) -> None:
        self.written = 0
        self.dropped = 0
        self.failed = 0
        self._insert = insert
        self._max_queue = max_queue
        self._commit_interval_s = commit_interval_s
        self._max_batch = max_batch
        self._queue: deque[UsageRecord] = deque()
        self._arrived = asyncio.Event()
        self._stopping = asyncio.Event()
        self._given_up = False
        self._task: asyncio.Task[None] | None = None
        self._single_rows = 0  # how many rows at the head go one by one, since their batch was refused
        self._unavailable = False
        self._dropped_before = 0  # what `dropped` was when the queue was last known to have room
        self._refusals: set[str] = set()

    @property
    def queued(self) -> int:
        """Rows that wait, the ones being stored included."""
        return len(self._queue)

    def record(self, row: UsageRecord) -> None:
        """Take `row`; returns at once and never raises. Before `start` the rows wait."""
        if len(self._queue) >= self._max_queue:
            if self.dropped == self._dropped_before:
                logger.error("usage rows are dropped: %d wait for the database already", self._max_queue)
            self.dropped += 1
            return
        self._queue.append(row)
        try:
            self._arrived.set()
        except RuntimeError:
            # The loop is closed: `flush_sync` has the row.
            logger.debug("a usage row came after the end of the event loop")

    def start(self) -> None:
        """Begin to store rows, in the running loop. A writer is started once."""
        # An empty context: the task outlives the request that may have started it, and must not keep its variables.
        self._task = asyncio.get_running_loop().create_task(self._run(), name="usage-writer", context=Context())

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Store what waits and end the task; after `timeout_s` seconds give up, and leave the rest to `flush_sync`.

        A commit that is under way is never cancelled.
        """
        self._stopping.set()
        self._arrived.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=timeout_s)
        self._given_up = True
        if self._queue:
            logger.error("%d usage rows are not stored after %.1f s", len(self._queue), timeout_s)

    def flush_sync(self, insert: Callable[[Sequence[UsageRecord]], None]) -> None:
        """Store what still waits by a synchronous `insert`; for the interpreter's exit, when no loop runs any more."""
        while self._queue:
            batch = self._next_batch()
            try:
                insert(batch)
            except StoreUnavailable as error:
                logger.error("%d usage rows are lost at exit: %s", len(self._queue), error)
                self.failed += len(self._queue)
                self._queue.clear()
            except Exception as error:
                self._refused(batch, error)
            else:
                self._stored(batch)

    async def _run(self) -> None:
        stopping = False
        while not stopping:
            await self._arrived.wait()
            await self._gather()
            await self._write_queue()
            stopping = self._stopping.is_set()
            self._arrived.clear()

    async def _gather(self) -> None:
        """Wait for more rows to come; not when it is time to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._commit_interval_s):
                await self._stopping.wait()

    async def _write_queue(self) -> None:
        """Store until nothing waits."""
        retry_s = FIRST_RETRY_S
        while self._queue and not self._given_up:
            batch = self._next_batch()
            try:
                await self._insert(batch)
            except StoreUnavailable as error:
                self._postponed(error)
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, LAST_RETRY_S)
                continue
            except Exception as error:
                self._refused(batch, error)
            else:
                self._stored(batch)
            retry_s = FIRST_RETRY_S

    def _next_batch(self) -> list[UsageRecord]:
        return list(islice(self._queue, 1 if self._single_rows else self._max_batch))

    def _stored(self, batch: Sequence[UsageRecord]) -> None:
        self.written += len(batch)
        self._leave_queue(batch)
        if self._unavailable:
            self._unavailable = False
            logger.warning("the usage database takes rows again; %d still wait", len(self._queue))
        if self.dropped > self._dropped_before:
            logger.error("%d usage rows were dropped", self.dropped - self._dropped_before)
            self._dropped_before = self.dropped

    def _postponed(self, error: StoreUnavailable) -> None:
        if not self._unavailable:
            self._unavailable = True
            logger.warning("the usage database takes no rows now, they wait: %s", error)

    def _refused(self, batch: Sequence[UsageRecord], error: Exception) -> None:
        if len(batch) > 1:
            self._single_rows = len(batch)
            return
        self.failed += 1
        self._leave_queue(batch)
        # The kind alone: an error's text may quote the row.
        if (kind := type(error).__name__) not in self._refusals:
            self._refusals.add(kind)
            logger.error("a usage row cannot be stored (%s); more of this kind are only counted", kind)

    def _leave_queue(self, batch: Sequence[UsageRecord]) -> None:
        for _ in batch:
            self._queue.popleft()
        self._single_rows = max(0, self._single_rows - len(batch))
