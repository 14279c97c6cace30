"""Where the files beside the code are: templates and migrations.

In a checkout they stand at the top level, where their tools expect them; in an installed wheel inside the package.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource_dir(name: str) -> Path:
    """The folder called `name` ("templates" or "migrations"): inside the package, else at the checkout's root.

    Raises:
        FileNotFoundError: It is in neither place: the installation is damaged.
    """
    for parent in (_PACKAGE, _PACKAGE.parent):
        if (folder := parent / name).is_dir():
            return folder
    raise FileNotFoundError(f"{name!r} is neither in {_PACKAGE} nor beside it; reinstall ccr-asgi")
