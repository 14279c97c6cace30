"""`make release-check`: what a machine can say of a release. `docs/releasing.md` has what a person must do.

Everything is built and installed in .cache/release, each installation with a home folder of its own.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.server import CHECKOUT, reserved_port

WORK = CHECKOUT / ".cache/release"
DIST = WORK / "dist"
CONSTRAINTS = CHECKOUT / "constraints.txt"
COMPILE = ("uv", "pip", "compile", "--quiet", "--all-extras", "--universal", "--python-version", "3.11",
           "--generate-hashes", "--no-header", "--no-annotate", "pyproject.toml", "--output-file")  # fmt: skip
LIMIT_S = 600


class CheckFailed(Exception):
    """Something is not fit to be released; the message says what."""


def run(*command: str | Path, home: Path | None = None, **variables: str) -> str:
    """What a command says; run in `home`, it finds nothing of this checkout.

    Raises:
        CheckFailed: It failed.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **variables}
    if home is not None:
        environment |= {"HOME": str(home), "PIPX_HOME": str(home / "pipx"), "PIPX_BIN_DIR": str(home / "bin")}
    done = subprocess.run(
        command, cwd=home or CHECKOUT, env=environment, capture_output=True, text=True, timeout=LIMIT_S
    )
    if done.returncode != 0:
        raise CheckFailed(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}{done.stderr[-2000:]}".rstrip())
    return done.stdout


def version() -> str:
    """The version that is to be released."""
    found: str = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    return found


def wheel() -> Path:
    """The wheel that was built."""
    (found,) = DIST.glob("*.whl")
    return found


def changelog_tells_it() -> None:
    """There is something to tell, under the version or still under Unreleased."""
    text = (CHECKOUT / "CHANGELOG.md").read_text()
    for heading in (f"## [{version()}]", "## [Unreleased]"):
        if text.partition(heading)[2].partition("\n## ")[0].partition("\n")[2].strip():
            return
    raise CheckFailed(f"CHANGELOG.md tells nothing of {version()}")


def both_are_built() -> None:
    """The sdist, and the wheel from that sdist."""
    run(sys.executable, "-m", "build", "--outdir", DIST)
    for name in (f"ccr_asgi-{version()}.tar.gz", f"ccr_asgi-{version()}-py3-none-any.whl"):
        if not (DIST / name).exists():
            raise CheckFailed(f"{name} was not built")


def both_are_well_formed() -> None:
    """What twine and check-wheel-contents say."""
    run("twine", "check", "--strict", *DIST.iterdir())
    run("check-wheel-contents", wheel())


def constraints_are_current() -> None:
    """They are what their versions, compiled again, give: nothing is missing, nothing is left over."""
    again = WORK / "constraints.txt"
    shutil.copy(CONSTRAINTS, again)
    run(*COMPILE, again)
    if again.read_text() != CONSTRAINTS.read_text():
        raise CheckFailed("constraints.txt does not fit pyproject.toml: make constraints")


def works(command: Path, home: Path) -> None:
    """An installed command says its version, writes a configuration, serves with a new database, and stops."""
    if version() not in run(command, "--version", home=home):
        raise CheckFailed(f"{command} is of another version")
    run(command, "config", "init", home=home)
    with reserved_port() as port:
        run(command, "start", home=home, CCR_ASGI_PORT=str(port))
        try:
            run(command, "status", home=home, CCR_ASGI_PORT=str(port))
        finally:
            run(command, "stop", home=home, CCR_ASGI_PORT=str(port))


def pip_installs_it(home: Path) -> None:
    """With the versions and hashes of constraints.txt, and nothing beside them."""
    run(sys.executable, "-m", "venv", home / "venv", home=home)
    pip = (home / "venv/bin/python", "-m", "pip")
    run(*pip, "install", "--quiet", "--require-hashes", "--requirement", CONSTRAINTS, home=home)
    run(*pip, "install", "--quiet", "--no-deps", wheel(), home=home)
    run(*pip, "check", home=home)
    works(home / "venv/bin/ccr-asgi", home)


def pip_installs_the_newest(home: Path) -> None:
    """With what pip finds by itself today."""
    run(sys.executable, "-m", "venv", home / "venv", home=home)
    run(home / "venv/bin/python", "-m", "pip", "install", "--quiet", wheel(), home=home)
    works(home / "venv/bin/ccr-asgi", home)


def pipx_installs_it(home: Path) -> None:
    """With the newest of all that it needs."""
    run("pipx", "install", "--quiet", "--python", sys.executable, wheel(), home=home)
    works(home / "bin/ccr-asgi", home)


def uvx_runs_it(home: Path) -> None:
    """Without installing it; and `uv tool install` with the constraints."""
    python = ("--python", sys.executable)
    if version() not in run("uvx", "--quiet", *python, "--from", wheel(), "ccr-asgi", "--version", home=home):
        raise CheckFailed("uvx runs another version")
    tool = ("uv", "tool", "install", "--quiet", *python, "--constraints", CONSTRAINTS, wheel())
    run(*tool, home=home, UV_TOOL_DIR=str(home / "tools"), UV_TOOL_BIN_DIR=str(home / "bin"))
    works(home / "bin/ccr-asgi", home)


CHECKS: Mapping[str, Callable[[], None]] = {
    "the changelog tells of it": changelog_tells_it,
    "sdist and wheel are built": both_are_built,
    "sdist and wheel are well formed": both_are_well_formed,
    "constraints.txt is current": constraints_are_current,
}
INSTALLATIONS: Mapping[str, Callable[[Path], None]] = {
    "pip, with constraints.txt": pip_installs_it,
    "pip": pip_installs_the_newest,
    "pipx": pipx_installs_it,
    "uvx, uv tool": uvx_runs_it,
}


def installation(name: str, number: int) -> Callable[[], None]:
    """One way to install it, in a new home folder."""

    def check() -> None:
        home = WORK / "homes" / str(number)
        home.mkdir(parents=True)
        INSTALLATIONS[name](home)

    return check


def main() -> int:
    """Run all checks, say how each went; 1 if one failed."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    checks = {**CHECKS, **{f"installed by {name}": installation(name, n) for n, name in enumerate(INSTALLATIONS)}}
    failed = 0
    for name, check in checks.items():
        try:
            check()
        except (CheckFailed, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f"FAILED  {name}\n{error}", flush=True)
        else:
            print(f"ok      {name}", flush=True)
    print(f"{version()}: {f'{failed} of {len(checks)} failed' if failed else 'what remains is in docs/releasing.md'}")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--constraints"]:
        CONSTRAINTS.unlink(missing_ok=True)
        run(*COMPILE, CONSTRAINTS)
    else:
        sys.exit(main())
