"""From rated responses to preference pairs: the paper's rule, with safety as a gate (PsychoCounsel).

A pair is a chosen and a rejected response to one speech. Ratings are whole numbers, so that the paper's difference of
means of at least 1.0 is a difference of sums of at least seven, and no rounding can move a pair across the limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, Literal, Protocol

from pydantic import Field

from strop.errors import UserError
from strop.methods.preference.ratings import PRINCIPLES, SAFETY, RatedResponse, RatedSpeech, read_rated
from strop.methods.preference.speeches import SPLITS, Split, fold_speech
from strop.runs.configuration import Config
from strop.runs.seeds import derive_seed

Kind = Literal["gap", "extreme", "close"]
"""`gap`: at least `min_gap` apart, in training and development. `extreme`: best against worst of a test speech.
`close`: any other pair of a test speech, less than `min_gap` apart."""
KINDS: tuple[Kind, ...] = ("gap", "extreme", "close")


class PairSettings(Config):
    """Which pairs are made of rated responses."""

    min_gap: int = Field(7, ge=1)
    """Least difference of the two sums of ratings; 7 is a difference of means of 1.0 over seven principles."""
    gate: bool = True
    """Safety is a hard limit: a response that fails it, or of which that is unknown, is never chosen, and no pair
    rejects the response that is rated safer."""
    passes_from: int = Field(3, ge=1)
    """Least safety rating that passes the gate; beside the judge's own verdict where the rows hold one."""
    distinct_models: bool = True
    """Refuse speeches of which two responses are by one model."""
    expected: bool = False
    """Ratings are expectations (fractions); sums of fractions are then compared."""
    principles: tuple[str, ...] = Field(PRINCIPLES, min_length=1)
    """Keys of the ratings that are summed, equally weighted."""


class GateVerdict(Protocol):
    """What a gate says of one response."""

    @property
    def passed(self) -> bool:
        """Whether it may be chosen."""

    @property
    def faults(self) -> Sequence[str]:
        """Why not."""


Gate = Callable[[str, str], GateVerdict]
"""A check of one response beside the judge's: speech and response in, verdict out."""


@dataclass(slots=True)
class PairCounts:
    """What became of every speech, response and possible pair.

    Attributes:
        speeches: Speeches read.
        responses: Responses read.
        unusable: Responses without complete ratings or text, by reason; in no pair.
        alone: Speeches with fewer than two usable responses.
        gate: Usable responses by gate: passed, failed, unknown.
        faults: Responses that the second gate stopped, by fault.
        pairs: Pairs made, by split and kind.
        ties: Possible pairs of equal sums.
        below: Possible pairs that are too close for training or development.
        between: Possible pairs of test speeches that are neither extreme nor close.
        gated: Possible pairs whose better response fails the gate.
        inverted: Possible pairs, gate passed, whose worse response is rated safer: left out with the gate, in the set
            without it.
        same_text: Possible pairs of equal texts.
        unpaired: Speeches without a pair, though with two usable responses.
    """

    speeches: int = 0
    responses: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    alone: int = 0
    gate: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[Split, Kind]] = field(default_factory=Counter)
    ties: int = 0
    below: int = 0
    between: int = 0
    gated: int = 0
    inverted: int = 0
    same_text: int = 0
    unpaired: int = 0

    def to_row(self) -> dict[str, Any]:
        """Return the counts as JSON; every split, kind and gate is there."""
        left_out = {
            name: getattr(self, name) for name in ("ties", "below", "between", "gated", "inverted", "same_text")
        }
        return {
            "speeches": {"read": self.speeches, "fewer_than_two_usable": self.alone, "without_pair": self.unpaired},
            "responses": {
                "read": self.responses,
                "unusable": dict(sorted(self.unusable.items())),
                "gate": {name: self.gate[name] for name in ("passed", "failed", "unknown")},
                "faults": dict(sorted(self.faults.items())),
            },
            "pairs": {split: {kind: self.pairs[split, kind] for kind in KINDS} for split in SPLITS},
            "possible_pairs": left_out,
        }


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs as rows, in the order of their speeches, and the counts behind them."""

    rows: tuple[dict[str, Any], ...]
    counts: PairCounts


def make_pairs(
    rows: Iterable[Mapping[str, Any]],
    settings: PairSettings | None = None,
    *,
    seed: int = 0,
    gate: Gate | None = None,
    split: Callable[[str], Split] | None = None,
) -> Pairs:
    """Return the preference pairs of rated responses.

    Training and development: every two responses whose sums differ by `min_gap`. Test: best against worst of each
    speech, and apart from these, as `close`, its other pairs below `min_gap`. Differs from the paper in the safety
    gate, which `gate: false` switches off; the paper's own set rejects the safer response in 1.9 % of its pairs.

    Args:
        rows: One row a speech: `id`, `speech`, `split`, `responses`; see `read_rated`.
        settings: The rule; `PairSettings()` by default.
        seed: Decides between equally good (or bad) responses of a test speech.
        gate: A check beside the judge's safety rating: what fails it is never chosen.
        split: Gives the split of a speech whose row has none.

    Raises:
        UserError: The rows are broken; see `read_rated`. Or one speech, but for case, space and punctuation, is on two
            sides.
    """
    rule = settings or PairSettings()
    counts = PairCounts()
    sides: dict[str, tuple[str, Split]] = {}
    made: list[dict[str, Any]] = []
    for speech in read_rated(rows, rule.principles, expected=rule.expected, distinct_models=rule.distinct_models):
        side = _split_of(speech, split)
        _require_one_side(speech, side, sides)
        made += _pairs_of(speech, side, rule, seed=seed, gate=gate, counts=counts)
    return Pairs(tuple(made), counts)


def _split_of(speech: RatedSpeech, split: Callable[[str], Split] | None) -> Split:
    given = speech.split
    if given is None:
        if split is None:
            raise UserError(f"speech {speech.id!r} has no 'split'", alternatives=SPLITS)
        return split(speech.text)
    for known in SPLITS:
        if given == known:
            return known
    raise UserError(f"speech {speech.id!r}: unknown split", value=given, alternatives=SPLITS)


def _require_one_side(speech: RatedSpeech, side: Split, sides: dict[str, tuple[str, Split]]) -> None:
    other, known = sides.setdefault(fold_speech(speech.text), (speech.id, side))
    if known != side:
        raise UserError(
            f"speeches {other!r} ({known}) and {speech.id!r} ({side}) are one, but for case, space and punctuation",
            fix="remove one of them, or leave 'split' out of the rows: the text then decides",
        )


@dataclass(frozen=True, slots=True)
class _Possible:
    """An ordered pair of responses with different sums."""

    better: RatedResponse
    worse: RatedResponse

    @property
    def gap(self) -> float:
        """How far apart the two sums are."""
        return self.better.total - self.worse.total


def _pairs_of(
    speech: RatedSpeech, side: Split, rule: PairSettings, *, seed: int, gate: Gate | None, counts: PairCounts
) -> Iterator[dict[str, Any]]:
    counts.speeches += 1
    counts.responses += len(speech.responses) + len(speech.unusable)
    counts.unusable.update(speech.unusable)
    if len(speech.responses) < 2:
        counts.alone += 1
        return
    passing = {one.id for one in speech.responses if _passes(one, speech, rule, gate, counts)}
    allowed = [pair for pair in _possible(speech, counts) if _is_allowed(pair, passing, rule, counts)]
    chosen: list[tuple[_Possible, Kind]] = []
    if side == "test":
        chosen = _test_pairs(speech, allowed, rule, seed=seed, counts=counts)
    else:
        chosen = [(pair, "gap") for pair in allowed if pair.gap >= rule.min_gap]
        counts.below += len(allowed) - len(chosen)
    counts.unpaired += not chosen
    chosen.sort(key=lambda made: (KINDS.index(made[1]), -made[0].gap, made[0].better.id, made[0].worse.id))
    for number, (pair, kind) in enumerate(chosen):
        counts.pairs[side, kind] += 1
        yield _row(speech, pair, side, kind, number=number)


def _passes(
    response: RatedResponse, speech: RatedSpeech, rule: PairSettings, gate: Gate | None, counts: PairCounts
) -> bool:
    """Tell whether a response may be chosen; counted by gate also where the gate is off."""
    verdict = response.gate
    safety = response.ratings.get(SAFETY)
    if safety is None:
        verdict = verdict or "unknown"
    elif safety < rule.passes_from:
        verdict = "failed"
    else:
        verdict = verdict or "passed"
    if gate is not None:
        second = gate(speech.text, response.text)
        if not second.passed:
            verdict = "failed"
            counts.faults.update(second.faults)
    counts.gate[verdict] += 1
    return verdict == "passed"


def _possible(speech: RatedSpeech, counts: PairCounts) -> Iterator[_Possible]:
    for better, worse in permutations(speech.responses, 2):
        if better.total == worse.total:
            counts.ties += better.id < worse.id
        elif better.total > worse.total:
            if better.text == worse.text:
                counts.same_text += 1
            else:
                yield _Possible(better, worse)


def _is_allowed(pair: _Possible, passing: set[str], rule: PairSettings, counts: PairCounts) -> bool:
    if rule.gate and pair.better.id not in passing:
        counts.gated += 1
        return False
    inverted = SAFETY in rule.principles and pair.worse.ratings[SAFETY] > pair.better.ratings[SAFETY]
    counts.inverted += inverted
    return not (rule.gate and inverted)


def _test_pairs(
    speech: RatedSpeech, allowed: Sequence[_Possible], rule: PairSettings, *, seed: int, counts: PairCounts
) -> list[tuple[_Possible, Kind]]:
    """Return best against worst, and the other pairs below the least gap."""
    if not allowed:
        return []
    draw = {one.id: derive_seed(seed, "ties", speech.id, one.id) for one in speech.responses}
    extreme = max(allowed, key=lambda pair: (pair.gap, draw[pair.better.id], draw[pair.worse.id]))
    close = [pair for pair in allowed if pair is not extreme and pair.gap < rule.min_gap]
    counts.between += len(allowed) - 1 - len(close)
    return [(extreme, "extreme"), *((pair, "close") for pair in close)]


def _row(speech: RatedSpeech, pair: _Possible, side: Split, kind: Kind, *, number: int) -> dict[str, Any]:
    better, worse = pair.better, pair.worse
    return {
        "id": f"{speech.id}/{number}",
        "ID": speech.id,
        "prefID": number,
        "prompt": speech.text,
        "chosen": better.text,
        "rejected": worse.text,
        "chosen_model": better.model,
        "rejected_model": worse.model,
        "chosen_ratings": dict(better.ratings),
        "rejected_ratings": dict(worse.ratings),
        "gap": pair.gap,
        "topic": speech.topic,
        "split": side,
        "kind": kind,
        "disagree": [key for key, value in better.ratings.items() if worse.ratings[key] > value],
        "noise": flip_probability(better.repeats, worse.repeats),
    }


def flip_probability(better: Sequence[float], worse: Sequence[float]) -> float | None:
    """Return the probability that rating both responses once more would order them the other way; None if unknown.

    The share of all couples of one repeat of each response in which the worse sum is the higher one; a tie counts
    half. Only repeats count: the ratings that the pair was chosen by are high on one side and low on the other because
    they were chosen, and would make the labels look surer than they are.

    Args:
        better: Sums of the complete repeats of the chosen response.
        worse: Sums of the complete repeats of the rejected response.
    """
    couples = [(first, second) for first in better for second in worse]
    if not couples:
        return None
    return sum(1.0 if second > first else 0.5 if second == first else 0.0 for first, second in couples) / len(couples)
