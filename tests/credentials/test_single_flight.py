"""One run of a job for all who ask for it while it lasts, and whoever leaves does not end it."""

import asyncio
import contextvars
import gc

import pytest

from ccr_asgi.credentials.single_flight import SingleFlight, joined

CARRIED: contextvars.ContextVar[str] = contextvars.ContextVar("CARRIED")


class Job:
    def __init__(self) -> None:
        self.runs = 0
        self.ends = 0
        self.go = asyncio.Event()
        self.carried: str | None = None

    async def run(self) -> None:
        self.runs += 1
        self.carried = CARRIED.get(None)
        await self.go.wait()
        self.ends += 1


async def test_all_who_wait_share_one_run() -> None:
    job = Job()
    flight = SingleFlight(job.run)
    waiting = [asyncio.create_task(joined(flight.start())) for _ in range(50)]
    await asyncio.sleep(0)
    assert flight.task is not None
    job.go.set()
    await asyncio.gather(*waiting)
    assert (job.runs, job.ends) == (1, 1)
    assert flight.task is None


async def test_the_arguments_are_of_whoever_makes_it_start() -> None:
    given: list[str] = []

    async def job(argument: str) -> None:
        given.append(argument)

    flight = SingleFlight(job)
    first, second = flight.start("first"), flight.start("second")
    assert first is second
    await joined(first)
    assert given == ["first"]


async def test_the_next_need_is_another_run() -> None:
    job = Job()
    job.go.set()
    flight = SingleFlight(job.run)
    await joined(flight.start())
    await joined(flight.start())
    assert job.runs == 2


async def test_a_run_that_is_over_is_not_joined_though_nobody_has_noticed_yet() -> None:
    async def nothing() -> None:
        pass

    flight = SingleFlight(nothing)
    first = flight.start()
    first.remove_done_callback(flight._landed)
    await first
    assert flight.start() is not first
    flight._landed(first)
    assert flight.task is not None
    await joined(flight.start())


async def test_who_leaves_does_not_end_it() -> None:
    job = Job()
    flight = SingleFlight(job.run)
    leaving, staying = asyncio.create_task(joined(flight.start())), asyncio.create_task(joined(flight.start()))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    job.go.set()
    await staying
    assert (job.runs, job.ends) == (1, 1)


async def test_it_goes_on_when_nobody_is_left() -> None:
    job = Job()
    leaving = asyncio.create_task(joined(SingleFlight(job.run).start()))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    del leaving
    gc.collect()
    job.go.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert job.ends == 1


async def test_the_impatient_do_not_end_it_either() -> None:
    job = Job()
    flight = SingleFlight(job.run)
    await joined(flight.start(), 0.01)
    assert (job.runs, job.ends) == (1, 0)
    job.go.set()
    await joined(flight.start())
    assert (job.runs, job.ends) == (1, 1)


async def test_a_defect_comes_out_at_all_who_wait() -> None:
    async def fails() -> None:
        raise LookupError("a defect")

    flight = SingleFlight(fails)
    said = await asyncio.gather(joined(flight.start()), joined(flight.start()), return_exceptions=True)
    assert [str(error) for error in said] == ["a defect", "a defect"]


async def test_it_carries_nothing_of_the_request_that_began_it() -> None:
    CARRIED.set("something of a request")
    job = Job()
    job.go.set()
    await joined(SingleFlight(job.run).start())
    assert job.carried is None
