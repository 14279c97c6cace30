"""Reading the usage database, with failures that a client may see."""

import logging
from collections.abc import Awaitable, Callable

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from ccr_asgi.errors import CcrError
from ccr_asgi.usage.errors import StoreError, StoreUnavailable
from ccr_asgi.usage.store import Answer, UsageStore

logger = logging.getLogger(__name__)

OpenStore = Callable[[], Awaitable[UsageStore]]
"""Awaits the open usage store; raises StoreError if it cannot be opened."""


async def read(store: OpenStore, ask: Callable[[Connection], Answer]) -> Answer:
    """What `ask` makes of the database, which it sees as it is at its first query.

    Raises:
        CcrError: The database cannot be read; what SQLAlchemy said of it is in the log alone.
    """
    try:
        return await (await store()).read(ask)
    except (StoreError, StoreUnavailable) as error:
        raise CcrError(str(error), status=503) from error
    except (SQLAlchemyError, OSError) as error:
        logger.error("the usage database could not be read: %s", error)
        raise CcrError(
            "It does not answer as it should; the server's log says why. `ccr-asgi db backup` saves what can be read; "
            "moving the file away begins a new one.",
            status=503,
        ) from error
