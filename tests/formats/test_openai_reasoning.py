"""The signature that carries encrypted reasoning through a client and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccr_asgi.formats.openai_reasoning import SIGNATURE_PREFIX, encrypted_content_of, signature_of


@given(st.text(min_size=1))
def test_it_comes_back_as_it_was(encrypted: str) -> None:
    assert encrypted_content_of(signature_of(encrypted)) == encrypted


@pytest.mark.parametrize(
    "signature", ["", "EqQBCkYIBxgCKkB", f" {SIGNATURE_PREFIX}x", SIGNATURE_PREFIX, "ccr-reasoning"]
)
def test_anything_else_is_nobody_s(signature: str) -> None:
    assert encrypted_content_of(signature) is None
