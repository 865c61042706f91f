"""A share and a few words become the layouts of every layer; shares that no layout has are refused with the nearest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from routed_decoders import GROUPS, HEADS, LAYERS, dense_decoder
from strop.errors import UserError
from strop.heads.requested import Request, importance_of, read_texts, settings_for


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dense")
    dense_decoder("llama").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ungrouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ungrouped")
    dense_decoder("llama", num_key_value_heads=HEADS).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("asked", "shared", "active", "choice"),
    [
        ({"active": 0.75}, (0, 4), 2, "per_group"),
        ({"active": 0.5}, (), 2, "per_group"),
        ({"active": 0.75, "sharing": "first"}, (0, 1, 2, 3), 2, "per_group"),
        ({"active": 0.75, "sharing": "none"}, (), 3, "per_group"),
        ({"active": 0.875, "choice": "free"}, (0, 4), 5, "free"),
        ({"active": 0.5, "choice": "groups"}, (), 1, "groups"),
        ({"active": 1.0}, (0, 4), 3, "per_group"),
    ],
)
def test_grouped_models(source: Path, asked: dict[str, Any], shared: tuple[int, ...], active: int, choice: str) -> None:
    """Eight heads in two groups. At 50 % one shared head of each group would leave one pick, so none is shared."""
    found = settings_for(source, Request(**asked))
    assert len(found.layers) == LAYERS
    assert {(layout.shared, layout.active, layout.choice) for layout in found.layers} == {(shared, active, choice)}


def test_models_without_groups_choose_freely_beside_the_first_half(ungrouped: Path) -> None:
    layout = settings_for(ungrouped, Request(active=0.75)).layers[0]
    assert (layout.shared, layout.active, layout.choice) == ((0, 1, 2, 3), 2, "free")


@pytest.mark.parametrize("asked", [{"active": 0.8}, {"active": 0.25, "sharing": "first"}, {"active": 0.0}])
def test_shares_that_do_not_divide_are_refused(source: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="share"):
        settings_for(source, Request(**asked))


def test_importance_is_shared_layer_by_layer(source: Path) -> None:
    """The most important head of each group: 3 and 6 in the first layer, 0 and 4 in the others."""
    flat = [8.0, 1.0, 1.0, 1.0, 8.0, 1.0, 1.0, 1.0]
    importance = [[0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 3.0, 2.0], *[flat] * (LAYERS - 1)]
    found = settings_for(source, Request(active=0.75, sharing="importance"), importance=importance)
    assert [layout.shared for layout in found.layers] == [(3, 6), *[(0, 4)] * (LAYERS - 1)]
    with pytest.raises(UserError, match="importance"):
        settings_for(source, Request(active=0.75, sharing="importance"))


def test_heads_are_spread_over_layers_by_importance(source: Path) -> None:
    """Of 4 heads a group, 3 active: the first layer matters least and gives up a step of the last one too."""
    importance = [[float(layer + 1)] * HEADS for layer in range(LAYERS)]
    asked = Request(active=0.75, sharing="none", spread="importance")
    found = settings_for(source, asked, importance=importance)
    assert asked.weighs
    assert [layout.active for layout in found.layers] == [2, *[3] * (LAYERS - 2), 4]
    with pytest.raises(UserError, match="importances do not fit"):
        settings_for(source, asked)


def test_importance_is_measured_on_texts(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(["[UNK]", "a", "b", "c", "d", "e", "f", "g", "h"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path)
    dense_decoder("llama").save_pretrained(tmp_path)
    done: list[int] = []
    table = importance_of(tmp_path, ["a b c d e f", "g h a c e"], on_text=done.append)
    assert done == [1, 2]
    assert [len(row) for row in table] == [HEADS] * LAYERS
    assert all(value > 0 for row in table for value in row)
    assert GROUPS == 2


def test_texts_are_read_from_paragraphs_and_tables(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\nmore\n\n\n two \n")
    (tmp_path / "b.jsonl").write_text('{"text": "three"}\n{"text": ""}\n')
    assert read_texts(tmp_path / "a.txt") == ["one\nmore", "two"]
    assert read_texts(tmp_path / "b.jsonl") == ["three"]
    (tmp_path / "c.jsonl").write_text('{"speech": "three"}\n')
    for name in ("c.jsonl", "missing.txt"):
        with pytest.raises(UserError, match="texts"):
            read_texts(tmp_path / name)
