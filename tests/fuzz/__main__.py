"""A bounded, coverage-guided run over all targets: `python -m tests.fuzz SECONDS [TARGET…]`.

What fails is kept in tests/fixtures/fuzz/TARGET, where `test_replay.py` finds it. Exit code 1 if anything did.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.targets import FIXTURES, TARGETS, Target

LONGEST_INPUT_BYTES = 8192
SLOWEST_INPUT_S = 10
MEMORY_MB = 2048
_STATE = re.compile(r"#(\d+)\s.*cov: (\d+) .*exec/s: (\d+)")


def fuzz(name: str, target: Target, seconds: int) -> bool:
    """Fuzz one target for some seconds; whether all went well."""
    kept = FIXTURES / "fuzz" / name
    kept.mkdir(parents=True, exist_ok=True)
    before = set(kept.iterdir())
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(target.corpus()):
            (corpus / f"seed-{number}").write_bytes(seed)
        words = Path(folder) / "words"
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
        options = [
            f"-max_total_time={seconds}",
            f"-artifact_prefix={kept}/",
            f"-dict={words}",
            f"-max_len={LONGEST_INPUT_BYTES}",
            f"-timeout={SLOWEST_INPUT_S}",
            f"-rss_limit_mb={MEMORY_MB}",
        ]
        ended = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.one", name, *options, str(corpus)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    found = sorted(path.name for path in set(kept.iterdir()) - before)
    if not any(kept.iterdir()):
        kept.rmdir()
    states = _STATE.findall(ended.stderr)
    runs, coverage, speed = states[-1] if states else ("0", "0", "0")
    print(f"{name:18} {runs:>9} inputs, {coverage:>5} edges, {speed:>6}/s, {', '.join(found) or 'nothing found'}")
    if ended.returncode != 0:
        print(ended.stdout[-2000:], ended.stderr[-2000:], sep="\n")
    return ended.returncode == 0


def _escaped(word: str) -> str:
    """A word in the syntax of libFuzzer's dictionaries."""
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


def main(arguments: list[str]) -> int:
    """Share the seconds among the targets; the exit code."""
    seconds, *names = arguments or ["60"]
    chosen = {name: TARGETS[name] for name in names or TARGETS}
    share = max(1, int(seconds) // len(chosen))
    failed = [name for name, target in chosen.items() if not fuzz(name, target, share)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
