"""Runs the migrations: on the connection that was handed in, else on the database of the environment.

Code of ours sets `Config.attributes["connection"]` (`ccr_asgi.usage.migrate`) and is inside a running event loop and a
transaction of its own: then no loop is started here and logging is left alone. The `alembic` command hands in nothing.
"""

import asyncio
import os
from logging.config import fileConfig

from alembic import context
from sqlalchemy import Connection

from ccr_asgi.config_file import DEFAULT_DATABASE
from ccr_asgi.usage.database import Database
from ccr_asgi.usage.tables import metadata


def run_migrations(connection: Connection) -> None:
    # SQLite alters a table by making it anew (batch), and can roll back DDL once we send BEGIN ourselves.
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


def print_migrations(database: Database) -> None:
    """`alembic upgrade head --sql`: write the statements and touch no database."""
    context.configure(
        url=database.url, target_metadata=metadata, literal_binds=True, dialect_opts={"paramstyle": "named"}
    )
    with context.begin_transaction():
        context.run_migrations()


async def migrate(database: Database) -> None:
    database.prepare()
    engine = database.write_engine()
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run_migrations)
    finally:
        await engine.dispose()


def main() -> None:
    if (connection := context.config.attributes.get("connection")) is not None:
        run_migrations(connection)
        return
    if context.config.config_file_name is not None:
        fileConfig(context.config.config_file_name, disable_existing_loggers=False)
    database = Database.parse(os.environ.get("CCR_ASGI_DATABASE_URL") or DEFAULT_DATABASE)
    if context.is_offline_mode():
        print_migrations(database)
    else:
        asyncio.run(migrate(database))


main()
