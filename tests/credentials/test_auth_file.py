"""The login file: replaced as a whole or not at all, its symlink, owner and mode kept."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi.credentials import auth_file
from ccr_asgi.credentials.auth_file import AuthFile
from ccr_asgi.credentials.login import Login, Unusable, read_login
from ccr_asgi.locks import LockTimeout, file_lock_in_thread
from tests.support.codex_login import login, write_login
from tests.support.server import CHECKOUT


def login_of(document: Any) -> Login:
    found = read_login(json.dumps(document).encode())
    assert isinstance(found, Login)
    return found


def numbered(number: int) -> Login:
    return login_of(login(number))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "auth.json"
    write_login(path)
    return path


def test_its_locks_are_those_of_the_cli(tmp_path: Path) -> None:
    file = AuthFile(tmp_path / "auth.json")
    assert (file.refresh_lock, file.write_lock) == (tmp_path / "auth.lock", tmp_path / "auth.json.lock")


def test_it_is_read_with_its_version(path: Path) -> None:
    found, version = AuthFile(path).read()
    assert isinstance(found, Login)
    assert found.refresh_token == "rt_invented_1"
    assert version == AuthFile(path).version()


@pytest.mark.parametrize(
    ("make", "problem", "remedy"),
    [
        (lambda path: None, "does not exist", "codex login` (a login that Codex keeps in the system's keyring cannot"),
        (lambda path: path.mkdir(), "cannot be read (Is a directory)", "make it readable, or run `codex login`"),
        (lambda path: path.symlink_to(path), "cannot be read (Too many levels of symbolic links)", "make it readable"),
    ],
    ids=["absent", "a folder", "a circle"],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, make: Any, problem: str, remedy: str) -> None:
    make(tmp_path / "auth.json")
    found, version = AuthFile(tmp_path / "auth.json").read()
    assert isinstance(found, Unusable)
    assert (found.problem, version) == (problem, None)
    assert remedy in found.remedy


def test_a_file_that_is_not_there_has_no_version(tmp_path: Path) -> None:
    assert AuthFile(tmp_path / "auth.json").version() is None


def test_it_is_replaced_by_a_file_that_only_its_owner_reads(path: Path) -> None:
    file = AuthFile(path)
    path.chmod(0o644)
    before = file.version()
    assert file.replace(numbered(2), before)
    assert json.loads(path.read_bytes())["tokens"]["refresh_token"] == "rt_invented_2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert file.version() != before
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["auth.json", "auth.json.lock"]


def test_what_a_killed_writer_left_is_removed(path: Path) -> None:
    path.with_name(".auth.json.orphan.tmp").write_bytes(b"tokens")
    path.with_name(".other.json.orphan.tmp").write_bytes(b"not ours")
    file = AuthFile(path)
    assert file.replace(numbered(2), file.version())
    left = sorted(entry.name for entry in path.parent.iterdir())
    assert left == [".other.json.orphan.tmp", "auth.json", "auth.json.lock"]


def test_another_version_is_left_alone(path: Path) -> None:
    file = AuthFile(path)
    before = file.version()
    write_login(path, 5)
    content = path.read_bytes()
    assert not file.replace(numbered(2), before)
    assert path.read_bytes() == content


def test_a_removed_file_is_not_made_anew(path: Path) -> None:
    file = AuthFile(path)
    before = file.version()
    path.unlink()
    assert not file.replace(numbered(2), before)
    assert not path.exists()


@pytest.mark.parametrize("relative", [True, False])
def test_a_symlink_stays_and_its_target_is_replaced(path: Path, relative: bool) -> None:
    target = path.parent / "elsewhere" / "kept.json"
    target.parent.mkdir()
    path.rename(target)
    path.symlink_to("elsewhere/kept.json" if relative else target)
    file = AuthFile(path)
    assert file.replace(numbered(2), file.version())
    assert path.is_symlink()
    assert json.loads(target.read_bytes())["tokens"]["refresh_token"] == "rt_invented_2"
    assert sorted(entry.name for entry in target.parent.iterdir()) == ["kept.json", "kept.json.lock"]


def test_the_owner_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    monkeypatch.setattr(os, "chown", lambda name, user, group: given.append((user, group)))
    file = AuthFile(path)
    owner = path.stat()
    assert file.replace(numbered(2), file.version())
    assert given == [(owner.st_uid, owner.st_gid)]


def test_windows_knows_no_such_owner(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Windows:
        platform = "win32"

    monkeypatch.setattr(auth_file, "sys", Windows())
    monkeypatch.delattr(os, "geteuid")
    file = AuthFile(path)
    assert file.replace(numbered(2), file.version())


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_write_that_fails_changes_nothing_and_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fails(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    content, file = path.read_bytes(), AuthFile(path)
    monkeypatch.setattr(os, name, fails)
    with pytest.raises(OSError, match="No space left"):
        file.replace(numbered(2), file.version())
    assert path.read_bytes() == content
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["auth.json", "auth.json.lock"]


def test_a_folder_that_cannot_be_synced_is_no_failure(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def of_files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files_only)
    file = AuthFile(path)
    assert file.replace(numbered(2), file.version())


def test_it_waits_for_another_writer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_file, "WRITE_LOCK_S", 0)
    file = AuthFile(path)
    with file_lock_in_thread(file.write_lock, 1), pytest.raises(LockTimeout):
        file.replace(numbered(2), file.version())


KILLED_AT_EACH_STEP = """
import os, signal, sys
from pathlib import Path
from ccr_asgi.credentials.auth_file import AuthFile
from ccr_asgi.credentials.login import read_login

folder = Path(sys.argv[1])
newer = read_login((folder / "newer.json").read_bytes())
older = (folder / "older.json").read_bytes()
steps = []

def at(step, name, real):
    def run(*arguments, **options):
        for moment in ("before", "after"):
            steps.append(f"{moment} {name} {len(steps)}")
            if len(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            if moment == "before":
                done = real(*arguments, **options)
        return done
    return run

def write(path, step):
    for name in ("open", "fsync", "stat", "replace", "close"):
        setattr(os, name, at(step, name, getattr(os, name)))
    file = AuthFile(path)
    file.replace(newer, file.version())

step = 0
while True:
    step += 1
    path = folder / f"{step}" / "auth.json"
    path.parent.mkdir()
    path.write_bytes(older)
    child = os.fork()
    if not child:
        write(path, step)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
print(step - 1)
"""


def test_a_kill_at_any_step_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    older, newer = json.dumps(login(1)).encode(), numbered(2)
    (tmp_path / "older.json").write_bytes(older)
    (tmp_path / "newer.json").write_bytes(newer.to_bytes())
    ran = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EACH_STEP, str(tmp_path)], capture_output=True, text=True, cwd=CHECKOUT
    )
    assert ran.returncode == 0, ran.stderr
    kills = int(ran.stdout)
    left = [(tmp_path / str(step) / "auth.json").read_bytes() for step in range(1, kills + 2)]
    assert kills >= 10
    assert set(left) == {older, newer.to_bytes()}
    assert left[-1] == newer.to_bytes()  # the one that nobody killed
    assert left.index(newer.to_bytes()) > 4  # and kills before the rename left the old one
