"""The fit itself: a planted signal is found, nothing reported was seen, and scikit-learn says the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from tests.judging.planted import planted_pairs

from strop.errors import UserError
from strop.judging.fitting.features import Response, block_matrices, block_scale, blocks_of
from strop.judging.fitting.fitting import Labels, choose, fit_all, fit_weights, gather, margins, nested
from strop.judging.fitting.grid import Grid, Setting, load_grid
from strop.judging.fitting.label_pool import preference_of
from strop.judging.pairs import HumanPair, read_pairs
from strop.judging.qualifying.baselines import correctness
from strop.models.embedding import Embedder, open_embedder

PLAIN = Grid("test", tuple(Setting("embedding", c) for c in (0.1, 1.0, 10.0)))
SINGLE = Grid("test", (Setting("embedding", 1.0),))


@pytest.fixture
def embedder(tiny_encoder: Path, tmp_path: Path) -> Embedder:
    return open_embedder(str(tiny_encoder), cache=tmp_path)


def labels_of(pairs: list[HumanPair], embedder: Embedder, *, own: int | None = None) -> Labels:
    rows = [preference_of(pair) for pair in pairs]
    own = len(rows) if own is None else own
    return gather(rows[:own], rows[own:], ("embedding", "product", "surface"), embedder)


def test_a_planted_signal_is_found_and_shuffled_labels_give_chance(embedder: Embedder) -> None:
    """On 200 shuffled pairs chance is .5 with standard error .035: .38 to .62 is three and a half of them."""
    found = nested(labels_of(planted_pairs(200), embedder), PLAIN, seed=0)
    assert correctness(found.margins).mean() > 0.9
    chance = nested(labels_of(planted_pairs(200, shuffled=True), embedder), PLAIN, seed=0)
    assert 0.38 < correctness(chance.margins).mean() < 0.62


def test_what_is_reported_was_not_seen(embedder: Embedder) -> None:
    """Turning every label of one outer fold round changes no chosen setting, and turns its own margins round exactly.

    The other folds did see those labels, so theirs may change: the folds are looked at one by one.
    """
    pairs = planted_pairs(60, groups=12)
    grid = Grid("test", tuple(Setting(f, c) for f in ("surface", "embedding") for c in (0.1, 10.0)))
    before = nested(labels_of(pairs, embedder), grid, seed=0)
    for fold in range(5):
        turned = [
            replace(pair, better=pair.worse, worse=pair.better) if place == fold else pair
            for pair, place in zip(pairs, before.folds, strict=True)
        ]
        after = nested(labels_of(turned, embedder), grid, seed=0)
        assert after.chosen[fold] == before.chosen[fold]
        assert np.array_equal(after.margins[before.folds == fold], -before.margins[before.folds == fold])


def test_features_are_scaled_by_the_training_part_alone(embedder: Embedder) -> None:
    labels = labels_of(planted_pairs(40), embedder)
    rows, setting = np.arange(20), Setting("embedding+product+surface", 1.0)
    before = fit_weights(labels, rows, setting)
    for matrix in labels.blocks.values():
        matrix[20:] *= 1000
    assert np.array_equal(fit_weights(labels, rows, setting), before)


def test_the_same_seed_gives_the_same_bytes(embedder: Embedder) -> None:
    labels = labels_of(planted_pairs(40), embedder)
    first, second = nested(labels, PLAIN, seed=3), nested(labels, PLAIN, seed=3)
    assert first.margins.tobytes() == second.margins.tobytes()
    assert first.chosen == second.chosen
    assert fit_all(labels, PLAIN, seed=3)[1].tobytes() == fit_all(labels, PLAIN, seed=3)[1].tobytes()
    assert nested(labels, PLAIN, seed=4).margins.tobytes() != first.margins.tobytes()


def test_scikit_learn_alone_gives_the_same_figures(embedder: Embedder) -> None:
    """C = 1 on embedding differences, five shuffled folds by group: written again with `cross_val_predict`.

    Both orders of every pair make the two classes there, at half the weight, so half the C; margins agree to what
    two runs of a solver can agree to, and accuracies are equal.
    """
    pairs = planted_pairs(60, groups=15, shuffled=True)
    labels = labels_of(pairs, embedder)
    ours = nested(labels, SINGLE, seed=0).margins
    texts = [pair.better for pair in pairs] + [pair.worse for pair in pairs]
    vectors = embedder.encode(texts).astype(np.float64)
    differences = vectors[:60] - vectors[60:]
    both, target = np.concatenate([differences, -differences]), np.repeat([1, 0], 60)
    groups = np.tile([pair.group for pair in pairs], 2)
    # Twice the rows: the folds are those of one row a pair.
    splits = [
        (np.concatenate([train, train + 60]), np.concatenate([test, test + 60]))
        for train, test in GroupKFold(5, shuffle=True, random_state=0).split(differences, groups=groups[:60])
    ]
    model = LogisticRegression(C=0.5, fit_intercept=False, max_iter=5000, tol=1e-8)
    theirs = cross_val_predict(model, both, target, cv=splits, method="decision_function")[:60]
    assert np.abs(ours - theirs).max() < 1e-4
    assert correctness(ours).mean() == accuracy_score(np.ones(60), theirs > 0)


def test_weights_answer_to_labels_turned_round_with_the_sign(embedder: Embedder) -> None:
    pairs = planted_pairs(40)
    turned = [replace(pair, better=pair.worse, worse=pair.better) for pair in pairs]
    setting, rows = Setting("embedding+surface", 1.0), np.arange(40)
    one, other = (fit_weights(labels_of(given, embedder), rows, setting) for given in (pairs, turned))
    assert np.array_equal(one, -other)


def test_extra_labels_help_where_they_carry_the_signal(embedder: Embedder) -> None:
    """Twenty own pairs say little; 150 more of the same kind lift unseen pairs, and weight 0 leaves them out."""
    pairs = [replace(pair, group=f"own {n}") for n, pair in enumerate(planted_pairs(24))] + planted_pairs(150, seed=1)
    labels = labels_of(pairs, embedder, own=24)
    with_extra = nested(labels, Grid("test", (Setting("embedding", 1.0, 1.0),)), seed=0)
    without = nested(labels, SINGLE, seed=0)
    assert with_extra.extra_used == (150,) * 5
    assert correctness(with_extra.margins).mean() > correctness(without.margins).mean()
    assert correctness(with_extra.margins).mean() > 0.8
    alone = nested(labels_of(pairs[:24], embedder), SINGLE, seed=0)
    assert np.array_equal(without.margins, alone.margins)


def test_of_equal_settings_the_first_is_taken(embedder: Embedder) -> None:
    labels = labels_of(planted_pairs(40), embedder)
    grid = Grid("test", (Setting("embedding", 1.0), Setting("embedding", 1.0)))
    nothing = np.zeros(0, dtype=np.int64)
    assert choose(labels, np.arange(40), grid, held_out=nothing, seed=0) is grid.settings[0]
    one_group = np.arange(0, 40, 20)
    assert choose(labels, one_group, PLAIN, held_out=nothing, seed=0) is PLAIN.settings[0]


@pytest.mark.parametrize(("count", "groups", "message"), [(19, 19, "too few pairs"), (40, 4, "too few groups")])
def test_too_little_data_is_refused(count: int, groups: int, message: str, embedder: Embedder) -> None:
    with pytest.raises(UserError, match=message):
        labels_of(planted_pairs(count, groups=groups), embedder)


def test_blocks_of_a_pair_swap_with_its_sides(embedder: Embedder) -> None:
    sides = [Response("i feel sad", "what do you need ?"), Response("i feel sad", "you must work .")]
    there, back = (
        block_matrices(order, ("embedding", "product", "surface"), embedder) for order in (sides, sides[::-1])
    )
    for block in there:
        assert np.array_equal(there[block][0] - there[block][1], -(back[block][0] - back[block][1]))


def test_scales_by_hand() -> None:
    """Surface columns by the root of their mean square: [3, 4] -> sqrt(12.5); a product by one root of the sum."""
    differences = np.array([[3.0, 0.0], [4.0, 0.0]])
    assert block_scale("surface", differences) == pytest.approx([12.5**0.5, 1.0])
    assert block_scale("product", differences) == pytest.approx([12.5**0.5] * 2)
    assert block_scale("embedding", differences).tolist() == [1.0, 1.0]


def test_the_shipped_grid_is_sound() -> None:
    grid = load_grid("standard")
    assert len(grid.settings) == 60
    assert len(grid.without_extra().settings) == 20
    assert grid.settings[0] == Setting("surface", 0.01, 0.0)
    assert grid.blocks() == ("surface", "embedding", "product")
    assert load_grid("single").settings == (Setting("embedding", 1.0, 0.0),)
    with pytest.raises(UserError, match="did you mean standard"):
        load_grid("standart")
    with pytest.raises(UserError, match="no such set of features"):
        blocks_of("embedding+embedding")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{features: [surface], C: [1]}", "must list exactly these"),
        ("{features: [surface], C: [0], extra_weight: [0]}", "C out of range"),
        ("{features: [surface], C: [1], extra_weight: [1]}", "needs the extra weight 0"),
        ("{features: [words], C: [1], extra_weight: [0]}", "no such set of features"),
        ("{features: [], C: [1], extra_weight: [0]}", "must list exactly these"),
    ],
)
def test_a_broken_grid_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(f"grids: {{mine: {text}}}", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_grid("mine", path=path)


@pytest.mark.slow
def test_the_real_pairs_give_the_lab_figure(shared_data: Path, tmp_path: Path) -> None:
    """MiniLM differences, C = 1, five folds: .689 with texts cut at the window (193 of 280), .664 with nothing cut.

    43 of the 560 responses and prompts are over the window of 256 tokens; the two ways differ on a few pairs only.
    """
    from sentence_transformers import SentenceTransformer

    from strop.models.builtin import builtin_encoder

    pairs = read_pairs(shared_data / "counsel" / "dev_pairs.jsonl")
    embedder = open_embedder("builtin:minilm", cache=tmp_path)
    labels = labels_of(pairs, embedder)
    ours = correctness(nested(labels, SINGLE, seed=0).margins).mean()
    assert ours == pytest.approx(0.689, abs=0.03)
    encoder = SentenceTransformer(str(builtin_encoder("minilm")), device="cpu", local_files_only=True)
    texts = [pair.better for pair in pairs] + [pair.worse for pair in pairs]
    cut = encoder.encode(texts).astype(np.float64)
    labels = replace(labels, blocks={"embedding": cut[:280] - cut[280:]})
    assert correctness(nested(labels, SINGLE, seed=0).margins).sum() == 193
    assert margins(labels, np.arange(3), SINGLE.settings[0], np.ones(384)).shape == (3,)
