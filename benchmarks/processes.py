"""Processes that are measured: their ports, their CPU time, their memory, their descriptors. Linux only (/proc)."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

START_S = 90.0
"""How long a server may take until it listens; LiteLLM takes half a minute."""


class Measured:
    """A server process with its children.

    Attributes:
        port: Where it listens.
        start_s: How long it took until it did.
    """

    def __init__(self, process: subprocess.Popen[str], port: int, start_s: float) -> None:
        self.process, self.port, self.start_s = process, port, start_s
        self._spent_ns: dict[str, int] = {}

    def pids(self) -> list[int]:
        """The process and all below it."""
        found, new = [], [self.process.pid]
        while new:
            found += new
            new = [child for pid in new for child in _children(pid)]
        return found

    def cpu_ms(self) -> float:
        """CPU time so far, in milliseconds, which the kernel counts in nanoseconds for each thread.

        Of a thread that has ended, as far as it was seen the last time.
        """
        for pid in self.pids():
            for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError):
                    self._spent_ns[str(task)] = int(task.read_text().split()[0])
        return sum(self._spent_ns.values()) / 1e6

    def rss_mb(self) -> float:
        """Resident memory now, in megabytes (10^6); what processes share is counted once for each."""
        total_kb = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
                total_kb += int(found[1]) if found else 0
        return total_kb * 1024 / 1e6

    def descriptors(self) -> int:
        """How many files and sockets are open."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += len(os.listdir(f"/proc/{pid}/fd"))
        return total


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found


def environment_with(requirement: str, folder: Path) -> Path | None:
    """The programs of a virtual environment in `folder` with `requirement` from the registry, made if need be.

    None where it cannot be had, which is said.
    """
    if not (folder / "complete").exists():
        print(f"installing {requirement} in {folder}", file=sys.stderr, flush=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", requirement]
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run(pip, check=True)
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"{requirement} cannot be installed, so it is not measured: {error}", file=sys.stderr, flush=True)
            return None
        (folder / "complete").touch()
    return folder / "bin"


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: Sequence[str], port: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Measured]:
    """Run a server that will listen on `port`; its output goes to `log`, its group ends with the block."""
    began_s = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, text=True, start_new_session=True,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
    try:
        while not _listens(port):
            if process.poll() is not None or time.monotonic() - began_s > START_S:
                raise RuntimeError(f"{command[0]} did not begin to listen:\n{log.read_text()[-3000:]}")
            time.sleep(0.005)
        yield Measured(process, port, time.monotonic() - began_s)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


@contextlib.contextmanager
def module(name: str, *arguments: str) -> Iterator[Measured]:
    """Run a module of ours that says its port in its first line."""
    began_s = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", name, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Measured(process, int(process.stdout.readline()), time.monotonic() - began_s)
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
