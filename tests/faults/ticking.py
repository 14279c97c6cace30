"""The product in a process whose clock on the wall is as many seconds off as the file CLOCK_FILE says."""

import os
import time
from pathlib import Path

import ccr_asgi

_FILE = Path(os.environ["CLOCK_FILE"])
_true_time = time.time


def _shifted() -> float:
    return _true_time() + float(_FILE.read_text())


time.time = _shifted
app = ccr_asgi.app
