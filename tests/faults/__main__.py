"""Run the whole matrix and print its table: `python -m tests.faults [pytest's options]`."""

import sys

import pytest

from tests.faults.matrix import elsewhere

if __name__ == "__main__":
    options = ["--faults-table", "-q", "-n", "2", *sys.argv[1:]]
    sys.exit(pytest.main([*options, "tests/faults", *dict.fromkeys(elsewhere())]))
