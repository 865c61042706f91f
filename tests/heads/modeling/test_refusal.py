"""Dense classes of transformers refuse a converted folder, also where a program names them itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

import strop.heads  # noqa: F401  # makes the converted types known to transformers
from routed_decoders import FAMILIES, dense_decoder, routed_decoder
from strop.heads.modeling.refusal import ATTENTION


@pytest.mark.parametrize("family", FAMILIES)
def test_the_dense_class_refuses_it(family: str, tmp_path: Path) -> None:
    """The published checkpoints load into it without a word of the heads. The error says what to do instead."""
    dense = dense_decoder(family)
    routed_decoder(dense, "free", router="query_norm").save_pretrained(tmp_path / "moh")
    with pytest.raises(ValueError, match="mixture of heads"):
        type(dense).from_pretrained(tmp_path / "moh")


def test_the_choice_of_kernels_stays_the_users(tmp_path: Path) -> None:
    """The name in the file is nobody's choice: without one the default is taken, with one that."""
    routed_decoder(dense_decoder("llama"), "free", router="query_norm").save_pretrained(tmp_path / "moh")
    named: dict[str, Any]
    for wanted, named in (("sdpa", {}), ("eager", {"attn_implementation": "eager"})):
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "moh", **named)
        assert model.config._attn_implementation == wanted
        model.save_pretrained(tmp_path / wanted)
        told = json.loads((tmp_path / wanted / "config.json").read_text())
        assert told["attn_implementation"] == ATTENTION
