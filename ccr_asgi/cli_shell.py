"""`ccr-asgi completions` and `shell-init`: what makes a shell complete our verbs, and know short names for them."""

import argparse

from ccr_asgi.cli_verbs import Verbs, add_verb, say

SHELLS = ("bash", "zsh", "fish")

_COMPLETIONS = """Print what makes the shell complete verbs and options at the tab key. For bash add to ~/.bashrc:
eval "$(ccr-asgi completions bash)"; for zsh the same in ~/.zshrc, below compinit; for fish: ccr-asgi completions fish >
~/.config/fish/completions/ccr-asgi.fish"""
_SHELL_INIT = """Print three short names for the shell: ccr-start and ccr-stop start and stop the server in the
background, claudem runs Claude Code through it. For bash and zsh add to ~/.bashrc or ~/.zshrc: eval "$(ccr-asgi
shell-init bash)"; for fish to ~/.config/fish/config.fish: ccr-asgi shell-init fish | source"""

NAMES = {"ccr-start": "start", "ccr-stop": "stop", "claudem": "code"}
_FUNCTIONS = {
    "bash": '{name}() {{ command ccr-asgi {verb} "$@"; }}',
    "zsh": '{name}() {{ command ccr-asgi {verb} "$@"; }}',
    "fish": "function {name}; command ccr-asgi {verb} $argv; end",
}


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs to the command."""
    for name, what, description, run in (
        ("completions", "complete verbs at the tab key", _COMPLETIONS, run_completions),
        ("shell-init", "short names for the shell", _SHELL_INIT, run_shell_init),
    ):
        add_verb(verbs, name, what, description, run).add_argument("shell", choices=SHELLS)


def run_completions(args: argparse.Namespace) -> int:
    """`ccr-asgi completions SHELL`."""
    from argcomplete.shell_integration import shellcode

    say(shellcode(["ccr-asgi"], shell=args.shell))
    return 0


def run_shell_init(args: argparse.Namespace) -> int:
    """`ccr-asgi shell-init SHELL`."""
    for name, verb in NAMES.items():
        say(_FUNCTIONS[args.shell].format(name=name, verb=verb))
    return 0
