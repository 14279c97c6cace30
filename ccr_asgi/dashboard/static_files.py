"""The files that our pages load: each has its content's hash in its address, so that a browser may keep it for ever."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent / "static"
_MEDIA_TYPES = {"dashboard.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file, its media type, and the hash of what is in it."""

    media_type: str
    body: bytes
    digest: str


@cache
def static_file(name: str) -> StaticFile:
    """The file called `name`.

    Raises:
        KeyError: We have none of that name.
    """
    media_type = _MEDIA_TYPES[name]
    body = (_FOLDER / name).read_bytes()
    return StaticFile(media_type, body, sha256(body).hexdigest()[:16])


def static_url(name: str) -> str:
    """The address of a file below the prefix that we are mounted under; another content has another."""
    return f"/dashboard/static/{name}?v={static_file(name).digest}"
