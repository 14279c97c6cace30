"""Three layers that let any Anthropic client talk to one OpenAI-compatible endpoint.

    OPENAI_BASE_URL=http://localhost:11434/v1 uvicorn examples.any_anthropic_client:app --port 8000
    python -c 'import anthropic; print(anthropic.Anthropic(base_url="http://localhost:8000", api_key="none").messages
        .create(model="qwen3", max_tokens=99, messages=[{"role": "user", "content": "Hello!"}]))'

The client's model name goes up as it is; there is no routing, no database and no configuration.
"""

import os

from starlette.types import ASGIApp

from ccr_asgi import AuthInjectionMiddleware, FormatConversionMiddleware, UpstreamApp
from ccr_asgi.credentials.static import StaticKey

endpoint = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1") + "/chat/completions"
key = StaticKey(os.environ.get("OPENAI_API_KEY", "none"))

app: ASGIApp = UpstreamApp(base_url=endpoint)
app = AuthInjectionMiddleware(app, credentials=key)
app = FormatConversionMiddleware(app, kind="openai-chat")
