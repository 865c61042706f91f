"""Prices from the shipped file, the user's file and the model's option; what is not known stays unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from strop.errors import UserError
from strop.models.endpoints.endpoint import EndpointModel
from strop.models.endpoints.prices import PRICES_VARIABLE, parse_price, price_of
from strop.models.spec import OPENAI_URL, parse_model
from strop.runs.budget import FREE

OWN = """
currency: EUR
vendors:
  - host: api.openai.com
    source: our contract
    as_of: 2026-01-01
    models: {gpt-4o: {prompt: 2, completion: 8}}
  - host: 10.0.0.5
    source: electricity
    as_of: 2026-01-01
    models: {ours: {prompt: 0.1, completion: 0.2, cached: 0}}
"""


def test_a_known_model_has_a_dated_price() -> None:
    """A million fresh tokens at 2.50, a million cached at 1.25, a million written at 10: 13.75."""
    price = price_of(OPENAI_URL, "gpt-4o")
    assert price is not None
    assert price.cost(prompt_tokens=2_000_000, completion_tokens=1_000_000, cached_tokens=1_000_000) == 13.75
    assert "20" in price.source
    assert "USD" in price.source


@pytest.mark.parametrize(("url", "model"), [(OPENAI_URL, "gpt-4o-new"), ("http://127.0.0.1:1/v1", "gpt-4o")])
def test_what_no_file_says_is_not_known(url: str, model: str) -> None:
    assert price_of(url, model) is None


def test_the_users_file_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(OWN)
    monkeypatch.setenv(PRICES_VARIABLE, str(file))
    contract, local = price_of(OPENAI_URL, "gpt-4o"), price_of("http://10.0.0.5:8000/v1", "ours")
    assert contract is not None
    assert local is not None
    assert (contract.prompt, contract.cached) == (2, None)
    assert "EUR" in contract.source
    assert local.cached == 0
    assert price_of(OPENAI_URL, "gpt-4o-mini") is not None


@pytest.mark.parametrize("text", [None, "[]", "vendors: [1]", "a: [", OWN.replace("2,", "-2,")])
def test_a_broken_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    file = tmp_path / "prices.yaml"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv(PRICES_VARIABLE, str(file))
    with pytest.raises(UserError, match="price file") as raised:
        price_of(OPENAI_URL, "gpt-4o")
    assert str(file) in str(raised.value)


def test_the_models_option_goes_before_all_files() -> None:
    stated = {"model": "openai:gpt-4o", "price": {"prompt": 1, "completion": 2}}
    assert EndpointModel(parse_model(stated)).price == parse_price({"prompt": 1, "completion": 2})
    assert EndpointModel(parse_model({"model": "http://h/v1#m", "price": "free"})).price == FREE
    assert EndpointModel(parse_model("http://h/v1#m")).price is None
    for value in (stated, {"model": "http://h/v1#m", "price": "free"}):
        spec = parse_model(value)
        assert parse_model(spec.to_config()) == spec


@pytest.mark.parametrize(
    "given", [None, 3, "cheap", {}, {"prompt": 1}, {"prompt": 1, "completion": -1}, {"prompt": True, "completion": 1}]
)
def test_a_price_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match="a price"):
        parse_price(given)
