"""Keys in every form in which they may come back, and placeholders that are no keys."""

from __future__ import annotations

import base64
import logging
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.models.endpoints.secrets import HIDDEN, Secret

KEY = "sk-proj-Aa0/+_secret=="


@pytest.mark.parametrize(
    "echo",
    [
        KEY,
        f"Bearer {KEY}",
        quote(KEY, safe=""),
        base64.b64encode(KEY.encode()).decode(),
        base64.b64encode(f"Bearer {KEY}".encode()).decode(),
        base64.urlsafe_b64encode(f"user:{KEY}:x".encode()).decode(),
        base64.b64encode(f"x{KEY}".encode()).decode(),
    ],
)
def test_no_form_of_a_key_survives(echo: str) -> None:
    hidden = Secret(KEY).hide(f"before {echo} after")
    assert HIDDEN in hidden
    assert KEY not in hidden
    core = base64.b64encode(KEY[3:-3].encode()).decode().rstrip("=")
    assert core not in hidden
    assert hidden.startswith("before ")
    assert hidden.endswith(" after")


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_any_base64_around_a_key_loses_it(before: bytes, after: bytes) -> None:
    """What is left of the encoding decodes to no more than the bytes at the key's two ends."""
    whole = base64.b64encode(before + KEY.encode() + after).decode()
    assert HIDDEN in Secret(KEY).hide(whole)


@pytest.mark.parametrize("placeholder", ["", "x", "EMPTY", "none"])
def test_a_placeholder_is_a_word_like_others(placeholder: str) -> None:
    assert Secret(placeholder).hide("EMPTY x none") == "EMPTY x none"


def test_log_records_of_the_client_lose_the_key(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(KEY)
    with caplog.at_level(logging.DEBUG):
        for name in ("openai._base_client", "httpx2", "httpcore2.http11"):
            logging.getLogger(name).debug("headers %s", [("x-echo", KEY)])
    assert len(caplog.records) == 3
    assert KEY not in caplog.text
    assert KEY not in repr(secret)
