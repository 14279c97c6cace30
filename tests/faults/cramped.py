"""The product in a process whose files may not grow beyond CRAMPED_BYTES, as on a disk that is full."""

import os
import resource

import ccr_asgi


def __getattr__(name: str) -> object:
    # Made when a server asks for it: the limit is for the process that serves.
    if name != "app":
        raise AttributeError(name)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["CRAMPED_BYTES"]), hard))
    return ccr_asgi.app
