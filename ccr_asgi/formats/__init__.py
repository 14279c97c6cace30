"""The wire formats, by their kind.

`anthropic` is not among them: it is the clients' own format, and nothing is converted.
"""

from collections.abc import Mapping

from ccr_asgi.formats.base import Format
from ccr_asgi.formats.openai_chat import FORMAT as OPENAI_CHAT
from ccr_asgi.formats.openai_responses import FORMAT as OPENAI_RESPONSES

FORMATS: Mapping[str, Format] = {each.kind: each for each in (OPENAI_CHAT, OPENAI_RESPONSES)}
