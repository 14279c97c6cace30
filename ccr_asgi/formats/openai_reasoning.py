"""Reasoning that is carried from turn to turn: encrypted by the provider, kept for us by the client.

Anthropic's thinking blocks have a signature that clients send back as it came. Ours holds the encrypted content of a
Responses reasoning item, behind a mark that tells it from Anthropic's own.
"""

SIGNATURE_PREFIX = "ccr-reasoning:"


def signature_of(encrypted_content: str) -> str:
    """The signature that keeps a reasoning item's encrypted content."""
    return SIGNATURE_PREFIX + encrypted_content


def encrypted_content_of(signature: str) -> str | None:
    """The encrypted content that a signature keeps; None for anybody else's."""
    if not signature.startswith(SIGNATURE_PREFIX):
        return None
    return signature.removeprefix(SIGNATURE_PREFIX) or None
