"""Qualification with judges whose worth is known: perfect, coin, longer wins, always first, failing, and fitted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from strop.errors import UserError
from strop.judging.judge import Comparison, Duel, OrderVerdict, settled
from strop.judging.pairs import HumanPair, better_side, read_pairs, word_count
from strop.judging.parsing import ParseFailure, Verdict
from strop.judging.qualifying.measures import Resampling, few_groups
from strop.judging.qualifying.qualification import Qualification, qualify, refuse_seen
from strop.judging.qualifying.qualification_report import draw_slices
from strop.judging.qualifying.slices import model_family
from strop.judging.qualifying.verdict import load_thresholds

FAILED = ParseFailure("no_verdict")


def drawn(*names: object) -> float:
    """Return a number of 0 to 1 that depends on the names alone."""
    return hashlib.sha256(repr(names).encode()).digest()[0] / 256


def made(count: int = 240, *, longer: float = 0.65) -> list[HumanPair]:
    """Pairs of groups of two; the better one is the longer one with the given probability, and no word tells."""
    pairs = []
    for number in range(count):
        counts = (18, 12) if drawn("length", number) < longer else (12, 18)
        if number % 3 == 0:
            counts = (12, 12)
        better, worse = (
            " ".join(f"w{int(drawn(side, number, place) * 256)}" for place in range(size))
            for side, size in zip("bw", counts, strict=True)
        )
        pairs.append(
            HumanPair(
                id=number,
                prompt=f"message {number // 2}",
                better=better,
                worse=worse,
                group=f"g{number // 2}",
                source="one" if number % 4 else "other",
                label_strength=None,
                length_matched=number % 3 == 0,
                risk_language=number % 50 == 0,
                better_origin="human peer" if number % 5 == 0 else "openai:gpt-4o",
                worse_origin="llama-2" if number % 2 else "gpt-4",
            )
        )
    return pairs


@dataclass
class Scripted:
    """A judge made of a rule; each order's verdict is mapped to the duel's own sides."""

    rule: Callable[[Duel], tuple[OrderVerdict, OrderVerdict]]
    name: str = "scripted"
    revision: str = "r1"
    asked: list[Duel] = field(default_factory=list)

    def compare(self, items: Sequence[Duel]) -> list[Comparison]:
        self.asked = list(items)
        return [Comparison(duel.id, settled(*orders), *orders) for duel, orders in ((d, self.rule(d)) for d in items)]


def knowing(pairs: Sequence[HumanPair], accuracy: float = 1.0) -> Scripted:
    labels = {pair.id: pair for pair in pairs}

    def rule(duel: Duel) -> tuple[OrderVerdict, OrderVerdict]:
        right = better_side(labels[duel.id], duel)
        wrong: Verdict = "second" if right == "first" else "first"
        said: Verdict = right if drawn("right", duel.id) < accuracy else wrong
        return said, said

    return Scripted(rule)


def longer_wins(duel: Duel) -> tuple[OrderVerdict, OrderVerdict]:
    more = word_count(duel.first) - word_count(duel.second)
    said: Verdict = "first" if more > 0 else "second" if more < 0 else "tie"
    return said, said


def run(judge: Scripted, pairs: Sequence[HumanPair], family: str | None = None) -> Qualification:
    return qualify(judge, pairs, thresholds=load_thresholds(), family=family)


def estimates_of(found: Qualification) -> dict[str, float]:
    return {name: figure.estimate for name, figure in found.measured.figures.items() if figure is not None}


def test_a_perfect_judge_is_qualified() -> None:
    pairs = made()
    found = run(knowing(pairs), pairs)
    accuracy = found.measured.figures["accuracy"]
    assert found.verdict.decision == "qualified"
    assert found.verdict.text == "qualified (n=240)"
    assert accuracy is not None
    assert (accuracy.estimate, accuracy.high, accuracy.n) == (1.0, 1.0, 240)
    assert 0.95 < accuracy.low < 1.0


def test_a_perfect_judge_on_few_pairs_cannot_be_told_and_many_are_named() -> None:
    pairs = made(20)
    verdict = run(knowing(pairs), pairs).verdict
    assert verdict.decision == "cannot tell"
    assert verdict.pairs_needed is None or verdict.pairs_needed > 20


def test_a_coin_is_never_qualified() -> None:
    small, large = made(60), made(900)
    assert run(knowing(small, 0.5), small).verdict.decision in ("cannot tell", "not qualified")
    verdict = run(knowing(large, 0.5), large).verdict
    assert verdict.decision == "not qualified"
    assert any("accuracy at least" in rule or "margin over" in rule for rule in verdict.decided_by)


def test_a_judge_that_counts_words_is_told_from_people_by_its_lean() -> None:
    pairs = made()
    found = run(Scripted(longer_wins), pairs)
    margin = found.measured.figures["margin over longer wins"]
    assert found.verdict.decision == "not qualified"
    assert any("length lean at most" in rule for rule in found.verdict.decided_by)
    assert margin is not None
    assert margin.estimate == 0.0
    matched = found.measured.figures["accuracy where length-matched"]
    assert matched is not None
    assert matched.estimate == 0.5


def test_a_judge_that_takes_what_it_sees_first_flips_always_and_ties_always() -> None:
    pairs = made()
    found = run(Scripted(lambda _: ("first", "second")), pairs)
    estimates = estimates_of(found)
    assert estimates["flip rate"] == estimates["ties"] == estimates["first-position lean"] == 1.0
    assert estimates["accuracy"] == 0.5
    assert found.verdict.decision == "not qualified"
    assert any("flip rate" in rule for rule in found.verdict.decided_by)


def test_failures_are_neither_right_nor_wrong_and_disqualify() -> None:
    pairs = made()
    perfect = knowing(pairs)

    def rule(duel: Duel) -> tuple[OrderVerdict, OrderVerdict]:
        forward, backward = perfect.rule(duel)
        return (FAILED, backward) if drawn("fails", duel.id) < 0.3 else (forward, backward)

    found = run(Scripted(rule), pairs)
    failed = int(found.judgements.failed.sum())
    assert found.verdict.decision == "not qualified"
    assert [rule.split(" at most")[0] for rule in found.verdict.decided_by] == ["parse failures"]
    assert found.verdict.n == 240 - failed
    assert found.judgements.failure_kinds == {"no_verdict": failed}
    estimates = estimates_of(found)
    assert estimates["accuracy with failures as wrong"] == pytest.approx(1 - failed / 240)
    assert estimates["accuracy with failures as right"] == 1.0
    assert estimates["accuracy"] == 1.0
    assert sum(each.n - each.judged for each in found.measured.slices if each.name.startswith("source")) == failed


def test_a_judge_that_never_answers_has_no_accuracy_at_all() -> None:
    pairs = made(40)
    found = run(Scripted(lambda _: (FAILED, FAILED)), pairs)
    assert found.measured.figures["accuracy"] is None
    assert found.verdict.decision == "not qualified"
    assert found.measured.unavailable["flip rate"] == "no pair to measure it on has a verdict"
    json.dumps(found.to_row(), allow_nan=False)


def test_rows_in_another_order_change_nothing(tmp_path: Path) -> None:
    pairs = made(90)
    judge = knowing(pairs, 0.7)
    one, other = run(judge, pairs, "gpt"), run(judge, pairs[::-1], "gpt")
    assert one.to_row() == other.to_row()
    for found, name in ((one, "a.svg"), (other, "b.svg")):
        draw_slices(found.measured.slices, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_mirrored_labels_mirror_the_agreement() -> None:
    """The judge sees the same duels whatever the labels say, so agreement a turns into 1 - a."""
    pairs = made(90)
    judge = knowing(pairs, 0.7)
    before = run(judge, pairs)
    seen = judge.asked
    mirrored = [replace(pair, better=pair.worse, worse=pair.better) for pair in pairs]
    after = run(judge, mirrored)
    assert judge.asked == seen
    first, second = before.measured.figures["accuracy"], after.measured.figures["accuracy"]
    assert first is not None
    assert second is not None
    assert second.estimate == pytest.approx(1 - first.estimate)


def test_family_lean_counts_only_pairs_with_one_text_of_the_family() -> None:
    """The judge always prefers gpt's text to another's; people do where it is marked better."""
    pairs = made()
    marked = [pair for pair in pairs if (pair.id % 5 != 0) != (pair.id % 2 == 0)]
    own = {pair.id: pair.id % 5 != 0 for pair in marked}
    labels = {pair.id: pair for pair in pairs}

    def rule(duel: Duel) -> tuple[OrderVerdict, OrderVerdict]:
        right = better_side(labels[duel.id], duel)
        said: Verdict = right if own.get(duel.id, True) else "second" if right == "first" else "first"
        return said, said

    lean = run(Scripted(rule), pairs, "gpt").measured.figures["family lean"]
    assert lean is not None
    assert lean.n == len(marked)
    assert lean.estimate == pytest.approx(1 - sum(own.values()) / len(own))
    unknown = run(Scripted(rule), pairs, "qwen").measured
    assert unknown.figures["family lean"] is None
    assert "no pair has one text of the family 'qwen'" in unknown.unavailable["family lean"]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("gpt-4-turbo", "gpt"),
        ("openai:gpt-4o", "gpt"),
        ("meta-llama/Llama-2-13b-chat-hf", "llama"),
        ("builtin:smollm2-135m", "smollm"),
        ("http://host:8000/v1#Qwen2.5-7B", "qwen"),
        ("human therapist", None),
        ("4711", None),
    ],
)
def test_families_by_spelling(name: str, family: str | None) -> None:
    assert model_family(name) == family


def test_slices_without_grounds_say_so() -> None:
    pairs = [replace(pair, better_origin=None, risk_language=False, source="one") for pair in made(40)]
    measured = run(knowing(pairs), pairs).measured
    assert measured.unavailable["accuracy where human text preferred to a model's"] == "the file states no origins"
    assert measured.unavailable["accuracy where risk language"] == "no such pair in the file"
    assert not any(each.name.startswith("source") for each in measured.slices)


def test_slices_of_few_groups_are_named() -> None:
    pairs = made(60)
    assert few_groups(run(knowing(pairs), pairs).measured.slices) == ["risk language"]


def test_a_judge_is_not_qualified_on_what_it_learnt_from() -> None:
    @dataclass
    class Learnt(Scripted):
        known: frozenset[object] = frozenset()

        def seen(self, pair: HumanPair) -> bool:
            return pair.id in self.known

    pairs = made(20)
    judge = Learnt(longer_wins, known=frozenset({3, 5}))
    with pytest.raises(UserError, match="2 of 20 pairs"):
        run(judge, pairs)
    refuse_seen(judge, [pair for pair in pairs if pair.id not in judge.known])


def test_too_few_pairs_and_one_group_are_refused() -> None:
    pairs = made(20)
    with pytest.raises(UserError, match="too few human pairs"):
        run(knowing(pairs), pairs[:9])
    with pytest.raises(UserError, match="two groups"):
        run(knowing(pairs), [replace(pair, group="one") for pair in pairs])


def test_rates_of_rare_events_are_covered() -> None:
    """400 files of 120 pairs in groups of 2 that fail together, at rates .02 and .2, nominal 95 %.

    A rate whose interval is Wilson's at the effective n must be covered in at least 92.5 % of the files: at 95 % the
    chance to fall below that is below 2 % (binomial, 400 files).
    """
    groups = np.repeat([f"g{number:02}" for number in range(60)], 2)
    resampling = Resampling(groups, 0.95, 0)
    for rate, seed in ((0.02, 1), (0.2, 2)):
        generator = np.random.default_rng(seed)
        covered = 0
        for _ in range(400):
            found = resampling.rate(np.repeat(generator.random(60) < rate, 2).astype(np.float64))
            assert found is not None
            covered += found.low <= rate <= found.high
        assert covered >= 370


def test_agreement_with_clustered_pairs_is_covered() -> None:
    """200 files of 40 groups of 1 to 4 pairs, agreement .7 varying by group (sd .2), nominal 95 %.

    At 95 % the chance of fewer than 180 of 200 is below 0.2 %.
    """
    generator = np.random.default_rng(3)
    sizes = np.tile([1, 2, 3, 4], 10)
    groups = np.repeat([f"g{number:02}" for number in range(40)], sizes)
    covered = 0
    for seed in range(200):
        shares = np.where(generator.random(40) < 0.5, 0.5, 0.9)
        values = (generator.random(len(groups)) < np.repeat(shares, sizes)).astype(np.float64)
        found = Resampling(groups, 0.95, seed).share(values)
        assert found is not None
        covered += found.low <= 0.7 <= found.high
    assert covered >= 180


def test_the_real_file_tells_a_word_count_from_a_judge(shared_data: Path) -> None:
    """Longer wins as a judge on the 280 pairs: .655, margin 0 over itself, .5 where lengths match, lean broken."""
    pairs = read_pairs(shared_data / "counsel" / "dev_pairs.jsonl")
    found = run(Scripted(longer_wins), pairs)
    figures = estimates_of(found)
    assert figures["accuracy"] == pytest.approx(183.5 / 280)
    assert figures["accuracy of longer wins"] == figures["accuracy"]
    assert figures["accuracy of TF-IDF"] == pytest.approx(184 / 280)
    assert figures["accuracy where length-matched"] == pytest.approx(0.5)
    assert found.groups == 156
    assert found.verdict.decision == "not qualified"
