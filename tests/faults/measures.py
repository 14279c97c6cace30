"""What a server process holds: memory, descriptors, tasks are not asked of it but read from /proc."""

import threading
from pathlib import Path
from time import monotonic

from tests.integration.claude import World
from tests.support.server import RunningServer

HELD_UP_S = 15.0
"""What takes longer was held up: far less than any timeout of the product's, far more than a busy machine's pauses."""


def processes(server: RunningServer) -> list[int]:
    """The process that was started, and all that it started."""
    found = [server.process.pid]
    for process_id in found:  # grows while it is read
        for children in Path(f"/proc/{process_id}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def resident_bytes(world: World) -> int:
    """The resident memory of a world's server."""
    return sum(_status(process_id, "VmRSS") * 1024 for process_id in processes(_server(world)))


def peak_bytes(world: World) -> int:
    """The most resident memory that it ever had, or has had since `forget_peak`."""
    return sum(_status(process_id, "VmHWM") * 1024 for process_id in processes(_server(world)))


def forget_peak(world: World) -> None:
    """Begin to look for the peak anew (proc(5), clear_refs)."""
    for process_id in processes(_server(world)):
        Path(f"/proc/{process_id}/clear_refs").write_text("5")


def descriptors(world: World) -> int:
    """How many descriptors a world's server has open."""
    return sum(len(list(Path(f"/proc/{process_id}/fd").iterdir())) for process_id in processes(_server(world)))


def _server(world: World) -> RunningServer:
    assert world.server is not None, "this world lives in a thread"
    return world.server


def _status(process_id: int, name: str) -> int:
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


class Pauses:
    """Counts, from its making until `stop()`, the seconds for which the machine let nobody work."""

    _BEAT_S = 0.01

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._stood_still_s = 0.0
        self._thread = threading.Thread(target=self._count)
        self._thread.start()

    def stop(self) -> float:
        """How many seconds they were in all."""
        self._stopped.set()
        self._thread.join()
        return self._stood_still_s

    def _count(self) -> None:
        before_s = monotonic()
        while not self._stopped.wait(self._BEAT_S):
            now_s = monotonic()
            late_s = now_s - before_s - self._BEAT_S
            if late_s > 10 * self._BEAT_S:  # less is the ordinary sharing of a processor
                self._stood_still_s += late_s
            before_s = now_s
