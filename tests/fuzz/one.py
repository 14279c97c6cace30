"""Fuzz one target with libFuzzer, in a process of its own: `python -m tests.fuzz.one TARGET [libFuzzer's options]`."""

import sys
from importlib import import_module


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name = sys.argv.pop(1)
    atheris = import_module("atheris")  # not installed for the other tests
    # Only what is imported in here is watched for coverage: the product, not the judges.
    with atheris.instrument_imports(include=["ccr_asgi"]):
        from tests.fuzz.targets import TARGETS
    atheris.Setup(sys.argv, TARGETS[name].check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
