"""Every test of the transport runs on asyncio's own event loop and on uvloop: they differ just where it lives."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import pytest_asyncio
import uvloop

from ccr_asgi.transport import Http11Transport
from tests.support.skipping_loop import SkippingLoop
from tests.transport import CERTIFICATE


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": SkippingLoop, "uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def transport() -> AsyncIterator[Http11Transport]:
    """One with the limits that the tests without silence in them need."""
    transport = Http11Transport(ca_file=CERTIFICATE)
    yield transport
    await transport.aclose()


@pytest.fixture(scope="session")
def server_tls() -> ssl.SSLContext:
    """The TLS side of a server on localhost."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    return context
