"""The command `ccr-asgi`, and `python -m ccr_asgi`.

Claude Code runs `statusline` after every message, so it is reached without loading what the other verbs need.
"""

import sys


def main() -> int:
    """Run the command line of this process; returns the exit code."""
    if sys.argv[1:2] == ["statusline"]:
        from ccr_asgi.statusline import main as statusline

        return statusline(sys.argv[2:])
    from ccr_asgi.cli import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
