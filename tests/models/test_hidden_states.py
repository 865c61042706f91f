"""Hidden states as features: against transformers, one response at a time; kept; refused where they do not exist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from strop.errors import UserError
from strop.models.hidden_states import HiddenStates, is_states_block, open_states
from strop.models.render import encode_examples

ITEMS = [
    ("how many apples", "go and stop"),
    ("how many books and apples has me", "go"),
    ("how", "stop go ti me and go"),
]


@pytest.fixture
def states(tiny_folder: Path, tmp_path: Path) -> HiddenStates:
    return HiddenStates(tiny_folder, name="tiny", cache=tmp_path)


def test_transformers_agrees(states: HiddenStates, tiny_folder: Path) -> None:
    """Each response alone, without padding: the mean of its own tokens' states, and the state of its last token."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = states.encode(ITEMS, ["mean@1", "last@2"])
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    for slot, (prompt, response) in enumerate(encode_examples(tokenizer, ITEMS, chat="on")):
        with torch.no_grad():
            layers = model(torch.tensor([prompt + response]), output_hidden_states=True).hidden_states
        assert found["mean@1"][slot] == pytest.approx(layers[1][0, len(prompt) :].mean(0).numpy(), abs=1e-5)
        assert found["last@2"][slot] == pytest.approx(layers[2][0, -1].numpy(), abs=1e-5)


def test_what_is_known_is_not_computed_again(tiny_folder: Path, tmp_path: Path) -> None:
    first = HiddenStates(tiny_folder, name="tiny", cache=tmp_path)
    made = first.encode(ITEMS, ["mean@2"])
    first.close()
    second = HiddenStates(tiny_folder, name="tiny", cache=tmp_path)
    told: list[int] = []
    assert np.array_equal(
        second.encode([*ITEMS, ITEMS[0]], ["mean@2"], advance=told.append)["mean@2"][:3], made["mean@2"]
    )
    assert "_model" not in second.__dict__
    assert told == [3]
    assert (second.texts, second.divided) == (3, 0)


@pytest.mark.parametrize("block", ["mean@3", "first@1", "mean"])
def test_blocks_that_do_not_exist(states: HiddenStates, block: str) -> None:
    with pytest.raises(UserError, match="no such block"):
        states.encode(ITEMS, [block])


def test_a_response_over_the_context_is_refused(states: HiddenStates) -> None:
    with pytest.raises(UserError, match="takes 128"):
        states.encode([("how", "go " * 200)], ["mean@1"])


def test_names() -> None:
    assert is_states_block("last@30")
    assert not is_states_block("embedding")
    with pytest.raises(UserError, match="no such model folder"):
        open_states("no/such/folder")
