"""A reward model's folder: its scores stand alone, whatever surrounds them, and a plain transformers reads the same."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from strop.errors import UserError
from strop.models.placement import Placement
from strop.models.rewards import Item, open_reward
from strop.models.rewards.facts import RewardFacts
from strop.models.rewards.folder import FolderReward
from strop.models.rewards.reading import distinct_pad
from strop.records.rows import Message
from strop.training.reward_files import measure_scale
from tiny_llama import build_model, build_tokenizer

ITEMS: list[Item] = [
    ("how many apples", "go and stop"),
    ("how many books and apples has me", "go"),
    ("how", "stop go ti me and go and stop and go"),
    ((Message("user", "how"), Message("assistant", "go"), Message("user", "many")), "stop"),
]


@pytest.fixture(scope="module", params=["own padding", "padding is the end"])
def talker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model's reward folder, once with a tokenizer that pads with its end token, as SmolLM2's does."""
    from transformers import AutoModelForSequenceClassification

    base, folder = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("reward")
    tokenizer = build_tokenizer(chat=True)
    if request.param == "padding is the end":
        tokenizer.pad_token = tokenizer.eos_token
    build_model(tokenizer).save_pretrained(base)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    torch.nn.init.normal_(model.score.weight)
    model.config.pad_token_id = distinct_pad(tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    RewardFacts(form="chat", max_length=64, base="tiny").write(folder)
    return folder


@pytest.mark.parametrize("batch_tokens", [1, 40, 8192])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("step", [1, -1])
def test_batch_padding_and_order_change_no_score(talker: Path, batch_tokens: int, side: str, step: int) -> None:
    """Each response alone, unpadded, by transformers itself; and strop's batches of every kind."""
    from transformers import AutoModelForSequenceClassification

    reward = FolderReward(talker, device="cpu", batch_tokens=batch_tokens, padding_side=side)
    plain = AutoModelForSequenceClassification.from_pretrained(talker).eval()
    expected = []
    for ids in reward.read_items(ITEMS):
        assert ids[-1] == reward.tokenizer.eos_token_id
        assert ids[-2] != reward.tokenizer.eos_token_id
        with torch.no_grad():
            hidden = plain.model(torch.tensor([ids])).last_hidden_state[0, -1]
            expected.append(float(plain.score(hidden)))
    assert len({round(score, 3) for score in expected}) == len(ITEMS)
    assert reward.score(ITEMS[::step]) == pytest.approx(expected[::step], abs=1e-4)


def test_a_plain_transformers_user_reads_the_same_scores(talker: Path) -> None:
    """Padded by hand with the folder's padding id: the configuration finds the end token."""
    from transformers import AutoModelForSequenceClassification

    reward = FolderReward(talker, device="cpu")
    plain = AutoModelForSequenceClassification.from_pretrained(talker).eval()
    ids = reward.read_items(ITEMS)
    width = max(map(len, ids))
    rows = torch.tensor([each + [plain.config.pad_token_id] * (width - len(each)) for each in ids])
    mask = torch.tensor([[1] * len(each) + [0] * (width - len(each)) for each in ids])
    with torch.no_grad():
        found = plain(input_ids=rows, attention_mask=mask).logits[:, 0].tolist()
    assert found == pytest.approx(reward.score(ITEMS), abs=1e-4)


def test_rendered_texts_have_the_same_scores(talker: Path) -> None:
    reward = FolderReward(talker, device="cpu")
    texts = [
        reward.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}], tokenize=False
        )
        for prompt, response in ITEMS[:3]
        if isinstance(prompt, str)
    ]
    assert reward.score_texts(texts) == pytest.approx(reward.score(ITEMS[:3]), abs=1e-5)


def test_too_long_is_refused_in_every_form(talker: Path) -> None:
    reward = FolderReward(talker, device="cpu")
    with pytest.raises(UserError, match="window is 64 tokens"):
        reward.score([("how", "go " * 80)])
    with pytest.raises(UserError, match="window is 64 tokens"):
        reward.score_texts(["user:how go " + "go " * 80])


def test_normalised_rewards_need_a_scale(talker: Path, tiny_reward: Path) -> None:
    with pytest.raises(UserError, match="no scale"):
        FolderReward(talker, device="cpu").score(ITEMS, normalised=True)
    scaled = FolderReward(tiny_reward, device="cpu")
    raw, normal = scaled.score(ITEMS[:2]), scaled.score(ITEMS[:2], normalised=True)
    assert normal == pytest.approx([(reward - 0.5) / 2 for reward in raw])


def test_the_scale_of_development_rewards(tiny_reward: Path, tmp_path: Path) -> None:
    """Mean and deviation of all development responses, in reward.json and, for OpenRLHF, in config.json."""
    folder = shutil.copytree(tiny_reward, tmp_path / "reward")
    rows = [
        {"prompt": "i am sad", "chosen": "why ?", "rejected": "work more"},
        {"prompt": "help", "chosen": "how ?", "rejected": "no"},
    ]
    pairs = tmp_path / "development.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    measure_scale(folder, pairs, base="tiny", device="cpu")
    reward = FolderReward(folder, device="cpu")
    scores = torch.tensor(reward.score([(row["prompt"], row[side]) for row in rows for side in ("chosen", "rejected")]))
    scale = RewardFacts.read(folder).normalisation
    assert scale is not None
    assert (scale.mean, scale.std) == pytest.approx((scores.mean().item(), scores.std(correction=0).item()), abs=1e-5)
    told: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (told["mean"], told["std"]) == (scale.mean, scale.std)


def test_overflown_weights_are_told(tiny_reward: Path) -> None:
    reward = FolderReward(tiny_reward, device="cpu")
    with torch.no_grad():
        reward._model.classifier.weight.fill_(math.nan)
    with pytest.raises(UserError, match="not a number"):
        reward.score(ITEMS[:1])


@pytest.mark.parametrize(
    ("content", "told"),
    [("{", "cannot be read"), ('{"form": "chat"}', "cannot be read"), (None, "no such reward model")],
)
def test_broken_folders(tiny_reward: Path, tmp_path: Path, content: str | None, told: str) -> None:
    folder = shutil.copytree(tiny_reward, tmp_path / "reward")
    (folder / "reward.json").unlink()
    if content is not None:
        (folder / "reward.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=told):
        open_reward(folder, Placement(device="cpu"))


def test_words_count_words() -> None:
    assert open_reward("words").score([("p", "one two  three\nfour"), ("p", "")]) == [4.0, 0.0]
