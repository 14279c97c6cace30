"""The servers that `ccr-asgi serve` runs, with the options that the promises need."""

import math
import signal

from ccr_asgi.config import Config
from ccr_asgi.logs import LogFormat, log_config

TARGET = "ccr_asgi:app"
STOP_S = 9
"""Seconds that a worker has, after `timeouts.drainS`, to write its rows before it is killed."""
H11_HEAD_BYTES = 2 * 1024 * 1024
"""How long a head may be before h11 refuses it in words of its own; the limit that counts is the guard's."""


def serve_uvicorn(config: Config, workers: int, http: str, log_format: LogFormat) -> None:
    """Serve with uvicorn until it is told to stop; `http` is its parser, "httptools" or "h11"."""
    import uvicorn

    # uvicorn raises the signal that ended it once more; a server that was told to stop has not failed.
    signal.signal(signal.SIGTERM, lambda *_: None)
    uvicorn.run(
        TARGET,
        host=config.host,
        port=config.port,
        workers=workers,
        http=http,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=log_config(log_format),
        server_header=False,
        date_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=H11_HEAD_BYTES,
        # Ours ends the streams first, with their rows; the server's own limit is for what does not end by that.
        timeout_graceful_shutdown=math.ceil(config.timeouts.drain_s) + 1,
    )


def serve_granian(config: Config, workers: int, log_format: LogFormat) -> None:
    """Serve with granian until it is told to stop.

    Raises:
        ImportError: It is not installed.
    """
    from granian import Granian
    from granian.constants import Interfaces

    Granian(
        TARGET,
        address=config.host,
        port=config.port,
        interface=Interfaces.ASGI,
        workers=workers,
        websockets=False,
        log_dictconfig=log_config(log_format),
        workers_kill_timeout=math.ceil(config.timeouts.drain_s) + STOP_S,
    ).serve()
