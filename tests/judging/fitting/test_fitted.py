"""The judge that is kept: exact under a swap, the same after a save, refused when something is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from tests.judging.planted import planted_pairs

from strop.errors import UserError
from strop.judging.fitting.features import Response
from strop.judging.fitting.fitted import JUDGE_NAME, WEIGHTS_NAME, Description, FittedJudge, weights_hash
from strop.judging.fitting.fitting import fit_weights, gather
from strop.judging.fitting.grid import Setting
from strop.judging.fitting.label_pool import preference_of
from strop.judging.judge import Duel, PairJudge
from strop.judging.pairs import better_side, duel_of
from strop.models.embedding import open_embedder
from strop.records.rows import Message

FEATURES = "embedding+product+surface"


@pytest.fixture(scope="module")
def judge(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> FittedJudge:
    """A judge fitted to 200 planted pairs."""
    embedder = open_embedder(str(tiny_encoder), cache=tmp_path_factory.mktemp("vectors"))
    rows = [preference_of(pair) for pair in planted_pairs(200)]
    labels = gather(rows, [], ("embedding", "product", "surface"), embedder)
    weights = fit_weights(labels, np.arange(200), Setting(FEATURES, 1.0))
    description = Description(
        name="planted",
        features=FEATURES,
        c=1.0,
        extra_weight=0.0,
        encoder=str(tiny_encoder),
        encoder_revision=embedder.revision,
        weights_hash=weights_hash(weights),
        pairs=200,
        groups=20,
        extra=0,
        grid="test",
        grid_hash="0",
        seed=0,
        strop="0",
        trained_on=tuple(sorted(frozenset().union(*(row.text_hashes() for row in rows)))),
    )
    return FittedJudge(description, weights, embedder)


def test_it_is_a_judge_of_pairs_and_finds_the_signal(judge: FittedJudge) -> None:
    asked: PairJudge = judge
    pairs = planted_pairs(40, seed=5)
    duels = [duel_of(pair) for pair in pairs]
    found = asked.compare(duels)
    right = [each.verdict == better_side(pair, duel) for each, pair, duel in zip(found, pairs, duels, strict=True)]
    assert sum(right) >= 34
    assert all(each.forward == each.backward == each.verdict and not each.flipped for each in found)
    assert [each.id for each in found] == [duel.id for duel in duels]
    assert asked.compare([]) == []


def test_strength_is_the_probability_of_the_first_side(judge: FittedJudge) -> None:
    duel = duel_of(planted_pairs(1, seed=7)[0])
    found = judge.compare([duel])[0]
    difference = judge.score(duel.prompt, duel.first) - judge.score(duel.prompt, duel.second)
    assert found.strength == pytest.approx(1 / (1 + np.exp(-difference)))
    assert (found.verdict == "first") == (difference > 0)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.text(max_size=60), second=st.text(max_size=60), prompt=st.text(max_size=30))
def test_swapping_the_sides_turns_the_verdict_exactly(judge: FittedJudge, first: str, second: str, prompt: str) -> None:
    """Whatever the texts: braces, verdicts, nothing at all; a copy of a response is always a tie of strength .5."""
    duel = Duel(1, prompt, first, second)
    there, back = judge.compare([duel, duel.swapped()])
    assert there.strength is not None
    assert back.strength is not None
    assert there.strength == 1 - back.strength or there.strength == pytest.approx(1 - back.strength, abs=1e-16)
    assert {there.verdict, back.verdict} in ({"first", "second"}, {"tie"})
    same = judge.compare([Duel(2, prompt, first, first)])[0]
    assert (same.verdict, same.strength) == ("tie", 0.5)


def test_a_duel_does_not_depend_on_the_others(judge: FittedJudge) -> None:
    duels = [duel_of(pair) for pair in planted_pairs(12, seed=9)]
    together = judge.compare(duels)
    assert together == [judge.compare([duel])[0] for duel in duels]
    assert together[::-1] == judge.compare(duels[::-1])


def test_a_conversation_is_a_prompt(judge: FittedJudge) -> None:
    turns = (Message("user", "i feel sad"), Message("assistant", "why ?"), Message("user", "work"))
    assert np.isfinite(judge.score(turns, "what do you need ?"))
    assert judge.scores([]).shape == (0,)


def test_saved_and_loaded_it_says_the_same(judge: FittedJudge, tmp_path: Path) -> None:
    judge.save(tmp_path / "judge")
    loaded = FittedJudge.load(tmp_path / "judge", cache=tmp_path / "vectors")
    assert loaded.revision == judge.revision
    assert loaded.description == judge.description
    assert loaded.weights.tobytes() == judge.weights.tobytes()
    pairs = planted_pairs(10)
    loaded.embedder.encode([])
    ours, theirs = (each.compare([duel_of(pair) for pair in pairs]) for each in (judge, loaded))
    assert [one.verdict for one in ours] == [other.verdict for other in theirs]
    assert [one.strength for one in ours] == pytest.approx([other.strength for other in theirs], abs=1e-4)
    assert sorted(path.name for path in (tmp_path / "judge").iterdir()) == [JUDGE_NAME, WEIGHTS_NAME]


def test_it_knows_what_it_learnt_from(judge: FittedJudge) -> None:
    known, new = planted_pairs(200), planted_pairs(5, seed=77)
    assert all(judge.seen(pair) for pair in known)
    assert not any(judge.seen(pair) for pair in new)


def test_the_revision_follows_the_weights(judge: FittedJudge) -> None:
    changed = judge.description.model_copy(update={"weights_hash": weights_hash(judge.weights + 1)})
    assert FittedJudge(changed, judge.weights + 1, judge.embedder).revision != judge.revision


def rewrite(folder: Path, **changes: object) -> None:
    path = folder / JUDGE_NAME
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / JUDGE_NAME).unlink(), "no fitted judge in this folder"),
        (lambda folder: (folder / JUDGE_NAME).write_text("{", encoding="utf-8"), "damaged"),
        (lambda folder: (folder / JUDGE_NAME).write_bytes(b"\xff\xfe"), "damaged"),
        (lambda folder: (folder / JUDGE_NAME).write_text("[]", encoding="utf-8"), "does not describe a fitted judge"),
        (lambda folder: rewrite(folder, schema_version=2), "written by a newer strop"),
        (lambda folder: rewrite(folder, pairs="many"), "pairs"),
        (lambda folder: rewrite(folder, features="smell"), "features"),
        (lambda folder: rewrite(folder, encoder_revision="0" * 64), "another revision of its encoder"),
        (lambda folder: rewrite(folder, encoder="/no/such/encoder"), "no such model folder"),
        (lambda folder: (folder / WEIGHTS_NAME).unlink(), "the file is missing"),
        (lambda folder: (folder / WEIGHTS_NAME).write_bytes(b"\0" * 40), "damaged"),
        (lambda folder: save_file({"weights": np.zeros(3)}, folder / WEIGHTS_NAME), "are not those that judge.json"),
        (lambda folder: save_file({"other": np.zeros(3)}, folder / WEIGHTS_NAME), "damaged"),
    ],
)
def test_a_damaged_folder_is_one_clear_message(
    judge: FittedJudge, damage: object, message: str, tmp_path: Path
) -> None:
    judge.save(tmp_path)
    assert callable(damage)
    damage(tmp_path)
    with pytest.raises(UserError, match=message):
        FittedJudge.load(tmp_path, cache=tmp_path / "vectors")


def test_an_encoder_that_moved_is_named_at_loading(judge: FittedJudge, tiny_encoder: Path, tmp_path: Path) -> None:
    judge.save(tmp_path / "judge")
    rewrite(tmp_path / "judge", encoder="/gone")
    shutil.copytree(tiny_encoder, tmp_path / "moved")
    loaded = FittedJudge.load(tmp_path / "judge", encoder=str(tmp_path / "moved"), cache=tmp_path / "vectors")
    assert loaded.revision == judge.revision
    assert np.isfinite(loaded.scores([Response("i", "you")])).all()
