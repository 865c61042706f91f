"""What tokens cost: a dated file of known models, the user's own file, or a model's option.

The shipped file is a convenience of its date; `$STROP_PRICES` names a file of the same form that goes before it.
A model that neither knows has no price, and a budget of money refuses it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from strop.errors import UserError
from strop.runs.budget import FREE, Price

PRICES_VARIABLE = "STROP_PRICES"
NAMES = ("prompt", "completion", "cached")
EXAMPLE = "price: {prompt: 2.5, completion: 10, cached: 1.25}, or price: free"


def price_of(base_url: str, model: str) -> Price | None:
    """Return what a model's tokens cost at a server, or None where no file says.

    Raises:
        UserError: The file that `$STROP_PRICES` names cannot be read.
    """
    host = (urlsplit(base_url).hostname or "").lower()
    own = os.environ.get(PRICES_VARIABLE, "")
    tables = [*([_own(own)] if own else []), _shipped()]
    return next((table[host, model] for table in tables if (host, model) in table), None)


def parse_price(given: Any) -> Price:
    """Read a price as it stands in a configuration: a mapping in money per million tokens, or ``free``.

    Raises:
        UserError: Something else, or a negative price.
    """
    if isinstance(given, Price):
        return given
    if given == "free":
        return FREE
    if not isinstance(given, Mapping) or not {"prompt", "completion"} <= given.keys() <= set(NAMES):
        raise UserError("a price has prompt and completion, and may have cached", value=given, fix=EXAMPLE)
    values = {name: value for name, value in given.items() if value is not None}
    if not {"prompt", "completion"} <= values.keys() or not all(map(_is_price, values.values())):
        raise UserError("a price is a number of at least 0, in money per million tokens", value=given, fix=EXAMPLE)
    return Price(**{name: float(value) for name, value in values.items()}, source="the model's option price")


def _is_price(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")


@lru_cache(maxsize=1)
def _shipped() -> dict[tuple[str, str], Price]:
    return _table(files("strop").joinpath("data/prices.yaml").read_text(encoding="utf-8"), "strop's price file")


def _own(path: str) -> dict[tuple[str, str], Price]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error
    return _table(text, path)


def _table(text: str, name: str) -> dict[tuple[str, str], Price]:
    try:
        content = yaml.safe_load(text)
        table = {}
        for vendor in content["vendors"]:
            source = f"{vendor['source']}, {vendor['as_of']}, {content['currency']}"
            for model, price in vendor["models"].items():
                given = parse_price(price)
                table[str(vendor["host"]).lower(), str(model)] = replace(given, source=source)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, UserError) as error:
        raise _unreadable(name, f"{type(error).__name__}: {error}") from error
    return table


def _unreadable(path: str, why: str) -> UserError:
    return UserError(
        f"the price file of ${PRICES_VARIABLE} cannot be read",
        value=path,
        why=why,
        fix="write it as: currency: USD, then vendors: a list of host, source, as_of and models (name: {prompt, "
        "completion, cached} in money per million tokens)",
    )
