"""The files that our pages load: each has its content's hash in its address, so that a browser may keep it for ever."""

import gzip
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent / "static"
_SCRIPT, _STYLE = "text/javascript; charset=utf-8", "text/css; charset=utf-8"
_MEDIA_TYPES = {
    "charts.js": _SCRIPT,
    "dashboard.css": _STYLE,
    "icon.svg": "image/svg+xml",
    "live.js": _SCRIPT,
    "page.js": _SCRIPT,
    "plotly-basic.min.js": _SCRIPT,
    "plotly.css": _STYLE,
    "theme.js": _SCRIPT,
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file.

    Attributes:
        media_type: What it is.
        body: Its bytes.
        compressed: The same, by gzip.
        digest: The hash of what is in it.
    """

    media_type: str
    body: bytes
    compressed: bytes
    digest: str


@cache
def static_file(name: str) -> StaticFile:
    """The file called `name`; its first reading compresses it, which takes 60 ms for the longest.

    Raises:
        KeyError: We have none of that name.
    """
    media_type = _MEDIA_TYPES[name]
    body = (_FOLDER / name).read_bytes()
    return StaticFile(media_type, body, gzip.compress(body, 9, mtime=0), sha256(body).hexdigest()[:16])


def static_url(name: str) -> str:
    """The address of a file below the prefix that we are mounted under; another content has another."""
    return f"/dashboard/static/{name}?v={static_file(name).digest}"
