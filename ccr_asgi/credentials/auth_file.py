"""The file that the Codex CLI keeps its login in, `$CODEX_HOME/auth.json`: read by many, replaced by one at a time."""

import os
import sys
import tempfile
from contextlib import suppress
from glob import escape
from pathlib import Path

from ccr_asgi.credentials.login import Login, Unusable, read_login
from ccr_asgi.locks import file_lock_in_thread

Version = tuple[int, int, int, int]
"""What changes when a file does: its inode, its size, and its two times in nanoseconds."""

WRITE_LOCK_S = 5.0
"""How long a write waits for another writer."""

_MISSING = Unusable(
    "does not exist",
    "run `codex login` (a login that Codex keeps in the system's keyring cannot be read: set "
    '`cli_auth_credentials_store = "file"` in its config.toml first)',
)


class AuthFile:
    """A login file at `path`, which may be a symlink: what it points to is replaced then, and the link stays."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def refresh_lock(self) -> Path:
        """`auth.lock`: who holds it may redeem the refresh token, or write what came of that."""
        return self.path.with_suffix(".lock")

    @property
    def write_lock(self) -> Path:
        """`auth.json.lock`: who holds it may replace the file. As the CLI's, it stands beside a symlink's target."""
        return Path(f"{os.path.realpath(self.path)}.lock")

    def version(self) -> Version | None:
        """The version that is there now; None if there is none to be seen."""
        try:
            return _version(os.stat(self.path))
        except OSError:
            return None

    def read(self) -> tuple[Login | Unusable, Version | None]:
        """What the file holds, and which version of it that is."""
        try:
            with self.path.open("rb") as file:
                version = _version(os.fstat(file.fileno()))
                return read_login(file.read()), version
        except FileNotFoundError:
            return _MISSING, None
        except OSError as error:
            return Unusable(f"cannot be read ({error.strerror})", "make it readable, or run `codex login`"), None

    def replace(self, login: Login, expected: Version | None) -> bool:
        """Replace the file as a whole, if it is still the `expected` version; whether it was.

        A process that is killed here leaves the old file or the new one. Blocks: not for the event loop's thread.

        Raises:
            OSError: It could not be written, and is as it was.
        """
        with file_lock_in_thread(self.write_lock, WRITE_LOCK_S):
            if self.version() != expected:
                return False
            _write(Path(os.path.realpath(self.path)), login.to_bytes())
            return True


def _version(stat: os.stat_result) -> Version:
    # The inode alone is not enough: a file system may give a removed file's to the next one.
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _write(target: Path, content: bytes) -> None:
    prefix, suffix = f".{target.name}.", ".tmp"
    for orphan in target.parent.glob(f"{escape(prefix)}*{suffix}"):  # of a writer that was killed: it holds tokens
        orphan.unlink(missing_ok=True)
    # mkstemp makes a file that only its owner can read (0600).
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=suffix)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _keep_owner(target, name)
        os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
    _sync_folder(target.parent)


def _keep_owner(target: Path, name: str) -> None:
    """Give the new file to the old one's owner: a server that runs as root must not lock the user's CLI out."""
    if sys.platform == "win32":
        return
    owner = target.stat()
    if owner.st_uid != os.geteuid():
        os.chown(name, owner.st_uid, owner.st_gid)


def _sync_folder(folder: Path) -> None:
    """Have the new name survive a power cut, where a folder can be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
