"""The `demo` verb of the `ccr-asgi` command: the whole of it at work, with made-up providers and traffic."""

import argparse
import asyncio
import os
import signal
import sys
import webbrowser
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ccr_asgi.demo import Demo

FAILED = 1
PORT = 3457
"""Not the server's own: no Claude Code that is set up for that one comes here by mistake."""

_DEMO = """See it at work without a key, an account or a network: the real server with simulated providers, simulated
agents that use it, and a made-up past in a database of its own. Nothing leaves this machine, nothing of yours is read
or changed, and Ctrl-C removes it all."""

_TOLD = """\
All of this is simulated: the providers, their answers, and the agents that ask them. Nothing leaves this machine.

  dashboard   {demo.dashboard_url}
  numbers     {demo.url}/api/usage
  database    {demo.config.usage.database} (removed at the end), with {demo.past_requests} made-up requests
  providers   {providers}, simulated at {demo.providers_url}
  try it      ANTHROPIC_BASE_URL={demo.url} claude
              with an agent of yours, tagged cerebras,… or codex,…: say "Use the NAME agent", and look at the dashboard

Ctrl-C ends it."""


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command; its parser sets `run`, from its arguments to the exit code."""
    parser = verbs.add_parser("demo", help="see it at work, all simulated: no key, no network", description=_DEMO)
    parser.set_defaults(run=demo)
    parser.add_argument("--port", type=_port, default=PORT, help="0 finds a free one; default: %(default)s")
    parser.add_argument("--no-open", action="store_true", help="do not open the dashboard in a browser")
    parser.add_argument("--days", type=_days, default=30, help="how far back the past reaches; default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="another number, another story; default: %(default)s")


def _port(text: str) -> int:
    return _between(text, 0, 65535)


def _days(text: str) -> int:
    return _between(text, 0, 366)


def _between(text: str, least: int, most: int) -> int:
    if not least <= (value := int(text)) <= most:
        raise argparse.ArgumentTypeError(f"found {text}; accepted is {least} to {most}")
    return value


def demo(args: argparse.Namespace) -> int:
    """`ccr-asgi demo`: runs until it is told to stop, which is a success."""
    from ccr_asgi.demo import PortTaken

    try:
        _run(args)
    except PortTaken as error:
        print(f"ccr-asgi: {error}; choose another with --port, or 0 for a free one", file=sys.stderr)  # noqa: T201 -- a command speaks on its standard streams
        return FAILED
    print("The demo has ended; nothing of it is left.")  # noqa: T201 -- as above
    return 0


def _run(args: argparse.Namespace) -> None:
    """Run the demo until somebody ends it."""
    with suppress(asyncio.CancelledError, KeyboardInterrupt):
        asyncio.run(_show(args))


async def _show(args: argparse.Namespace) -> None:
    from ccr_asgi.demo import running

    _end_on_signals()
    async with running(args.port, seed=args.seed, days=args.days) as demo:
        _tell(demo)
        if not args.no_open and _has_display():
            await asyncio.to_thread(webbrowser.open, demo.dashboard_url)
        await asyncio.Event().wait()


def _end_on_signals() -> None:
    """Have Ctrl-C, SIGTERM and a closed terminal cancel this task, so that all is put away as on any other end."""
    task = asyncio.current_task()
    assert task is not None
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        with suppress(AttributeError, NotImplementedError):  # Windows, where Ctrl-C raises KeyboardInterrupt
            asyncio.get_running_loop().add_signal_handler(getattr(signal, name), task.cancel)


def _tell(demo: "Demo") -> None:
    # Flushed, since whoever reads a pipe waits for the address.
    print(_TOLD.format(demo=demo, providers=", ".join(demo.config.providers)), flush=True)  # noqa: T201 -- as above


def _has_display() -> bool:
    """Whether a browser has a window of its own; one that takes over the terminal is not what anybody wants."""
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
