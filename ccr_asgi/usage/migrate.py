"""Brings a usage database up to date. The only module of ours that imports Alembic, and only imported to migrate."""

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from ccr_asgi.resources import resource_dir
from ccr_asgi.usage.errors import StoreError
from ccr_asgi.usage.tables import SCHEMA_REVISION


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration without a file; `connection` is what `migrations/env.py` shall run on."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(resource_dir("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the schema to `revision`, inside the transaction that `connection` is in.

    Raises:
        StoreError: The schema is of a revision that this version does not know.
    """
    config = alembic_config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = set(MigrationContext.configure(connection).get_current_heads())
    if unknown := current - known:
        raise StoreError(
            f"its schema is of revision {', '.join(sorted(unknown))}, and this version of ccr-asgi knows none after "
            f"{SCHEMA_REVISION}: it was written by a newer version; install that one, or move the database away"
        )
    command.upgrade(config, revision)
