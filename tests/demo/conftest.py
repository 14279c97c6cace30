"""What the demo's tests share: a running one, whose clock runs fast and which is sent only what a test sends."""

from collections.abc import AsyncIterator

import pytest

from ccr_asgi.demo import Demo, running

PACE = 0.02
"""How much faster than in life."""


@pytest.fixture
async def demo() -> AsyncIterator[Demo]:
    """A demo without a past and without traffic."""
    async with running(days=0, live=False, pace=PACE) as made:
        yield made
