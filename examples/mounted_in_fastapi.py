"""The whole proxy inside a FastAPI app, below /internal/claude.

    uvicorn examples.mounted_in_fastapi:app --port 8000
    ANTHROPIC_BASE_URL=http://localhost:8000/internal/claude claude

Nothing starts or stops it here: it starts with its first request, and its last rows are written when the interpreter
ends. With `FastAPI(lifespan=ccr_asgi.lifespan)` they are written before.
"""

from fastapi import FastAPI

import ccr_asgi

app = FastAPI()


@app.get("/healthz")
def health() -> dict[str, str]:
    """A page of the host's own."""
    return {"status": "ok"}


app.mount("/internal/claude", ccr_asgi.app)
