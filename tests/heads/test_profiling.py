"""The profile of a tiny converted Llama, its bounds worked by hand, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heads_tiny import converted_llama, tiny_llama
from strop.errors import UserError
from strop.heads.ceiling import CORE, LEARNED_ROUTER, NORM_ROUTER, DecoderShape, layer_ideal, prefill_speedup
from strop.heads.layout import HeadLayout
from strop.heads.profiling import DENSE, GATED, Arm, bound, profile
from strop.heads.profiling_ways import STEPS, open_profiled
from strop.heads.timing import Ratio

SHAPE = DecoderShape(width=64, layers=2, query_heads=4, kv_groups=4, head_width=16, mlp_width=0)
HALF = HeadLayout(query_heads=4, kv_groups=4, shared=(), active=2)
ALL = HeadLayout(query_heads=4, kv_groups=4, shared=(), active=4)


def test_bound_of_a_layer_is_the_ideal_of_its_formula() -> None:
    """T = 2 D, multi-head, half the heads: 6 / 4 = 1.5; with all queries made 6 / 4.5 = 1.33."""
    assert bound(SHAPE, [HALF, HALF], "layer", 128) == pytest.approx(1.5)
    assert bound(SHAPE, [HALF, HALF], "layer", 128, router="query_norm") == pytest.approx(4 / 3)
    assert bound(SHAPE, [ALL, HALF], "layer", 128, routed_layer=1) == pytest.approx(
        layer_ideal(0.5, heads_per_group=1, tokens_over_width=2.0)
    )


def test_bound_of_a_model_adds_what_its_layers_save() -> None:
    """Without an MLP, T = 2 D: one layer of 6 stays 6, the other becomes 4: 12 / 10 = 1.2. Half everywhere: 1.5."""
    assert bound(SHAPE, [ALL, HALF], "prefill", 128) == pytest.approx(1.2)
    assert bound(SHAPE, [HALF, HALF], "prefill", 128) == pytest.approx(1.5)
    assert bound(SHAPE, [ALL, ALL], "decode", 128) == 1.0


def test_a_training_step_pays_for_its_logits() -> None:
    """Vocabulary 96: 2 * 64 * 96 = 12,288 a token, 6,144 a layer.

    q, o, k + v and attention at T = 2 D in units of 2 * 64 * 64 = 8,192: 1, 1, 2 and 2, 49,152 in all; with half the
    heads 32,768. 49,152 + 6,144 over 32,768 + 6,144 is 1.421.
    """
    shape = replace(SHAPE, vocabulary=96)
    assert bound(shape, [HALF, HALF], "train", 128) == pytest.approx(55296 / 38912)
    assert bound(shape, [HALF, HALF], "prefill", 128) == pytest.approx(1.5)


def test_bound_of_decoding_is_the_larger_of_bytes_and_arithmetic() -> None:
    """Free choice under grouped queries spares hardly a byte, but half of the arithmetic of a long cache."""
    shape = replace(SHAPE, kv_groups=1)
    layout = HeadLayout(query_heads=4, kv_groups=1, shared=(), active=2)
    long = bound(shape, [layout, layout], "decode", 10**6)
    assert long == pytest.approx(2.0, abs=0.01)
    groups = HeadLayout(query_heads=4, kv_groups=2, shared=(), active=1, choice="groups")
    assert bound(replace(SHAPE, kv_groups=2), [groups, groups], "decode", 10**6) == pytest.approx(2.0, abs=0.01)


def test_a_gain_is_one_only_where_the_whole_interval_lies_above_one() -> None:
    assert Arm("auto", over_dense=Ratio(1.2, 1.01, 1.4, 5)).verdict == "gain"
    assert Arm("auto", over_dense=Ratio(1.2, 0.99, 1.4, 5)).verdict == "no gain"
    assert Arm("auto", over_dense=Ratio(0.8, 0.7, 0.9, 5)).verdict == "no gain"
    assert Arm("triton", why_not="no GPU").verdict == "not run"


def test_the_dense_twin_is_the_original_and_holds_nothing_twice(tmp_path: Path) -> None:
    original = tiny_llama(tmp_path / "dense")
    opened = open_profiled(converted_llama(tmp_path / "moh"), lengths=[16])
    tokens_bn = opened.tokens(16, 2)
    with torch.inference_mode():
        assert torch.equal(opened.dense(input_ids=tokens_bn).logits, original(input_ids=tokens_bn).logits)
    ours = {parameter.data_ptr() for parameter in opened.moh.parameters()}
    assert all(parameter.data_ptr() in ours for parameter in opened.dense.parameters())
    assert type(opened.dense).__name__ == "LlamaForCausalLM"


def test_every_step_of_a_converted_model_is_measured(tmp_path: Path) -> None:
    lines: list[str] = []
    found = profile(
        converted_llama(tmp_path / "moh"), [8, 16], rounds=2, batch=2, backends=["gathered"], told=lines.append
    )
    assert [(each.step, each.length) for each in found.measured] == [(step, n) for step in STEPS for n in (8, 16)]
    assert lines[0] == "layer at 8 tokens"
    for each in found.measured:
        assert [arm.name for arm in each.arms] == [DENSE, GATED, "gathered"]
        dense, gated, gathered = each.arms
        assert dense.over_dense is None
        assert gated.over_gated is None
        assert gathered.over_dense is not None
        assert gathered.over_dense.rounds == 2
        assert 1.0 < each.bound <= 2.0
    assert (found.share, found.clock, found.threads) == (0.5, "cpu", 1)


def test_a_backend_that_cannot_run_is_named_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test of the same process may have switched Triton's interpreter on, so its absence is put there."""
    monkeypatch.setattr("strop.heads.backends.triton.missing", lambda query, plan: "no GPU")
    found = profile(converted_llama(tmp_path / "moh"), [8], rounds=1, steps=["prefill"], backends=["triton"])
    arm = found.measured[0].arms[-1]
    assert (arm.name, arm.cpu_s, arm.verdict) == ("triton", None, "not run")
    assert arm.why_not


def test_a_training_step_that_cannot_fit_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strop.heads.profiling._free_bytes", lambda: 1000)
    found = profile(converted_llama(tmp_path / "moh"), [8], rounds=1, steps=["train"], backends=["gathered"])
    assert found.measured[0].arms == []
    assert "GB are free" in (found.measured[0].why_not or "")


def test_a_dense_model_is_refused(tmp_path: Path) -> None:
    tiny_llama(tmp_path)
    with pytest.raises(UserError, match="was not converted"):
        profile(tmp_path, [8])
    with pytest.raises(UserError, match="no model in this folder"):
        profile(tmp_path / "nothing", [8])


@pytest.mark.parametrize(
    ("lengths", "message"), [([65], "exceeds the context"), ([1], "at least 2"), ([], "at least one length")]
)
def test_lengths_that_do_not_fit_are_refused_before_the_weights_are_read(
    tmp_path: Path, lengths: list[int], message: str
) -> None:
    values = {"model_type": "moh_llama", "moh": {"layers": []}, "max_position_embeddings": 64}
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        profile(tmp_path, lengths)


def test_unknown_names_and_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such step"):
        profile(tmp_path, [8], steps=["prefil"])
    with pytest.raises(UserError, match="no such attention backend"):
        profile(tmp_path, [8], backends=["cuda"])
    with pytest.raises(UserError, match="rounds must be at least 1"):
        profile(tmp_path, [8], rounds=0)


def test_skipping_more_never_gains_less() -> None:
    ratios = [prefill_speedup(SHAPE, 128, 0.5, skipped=skipped) for skipped in (CORE, NORM_ROUTER, LEARNED_ROUTER)]
    assert ratios == sorted(ratios)
