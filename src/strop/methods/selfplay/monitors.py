"""What a round of self-play looks like: how sessions went, how varied their outcomes are, what the model expects.

A model that learns from itself narrows: it names fewer illnesses, repeats its plans, stops failing in new ways
(`strop.methods.selfplay.collapse` holds the alarm). All functions are pure; a figure that nothing was measured for is
None, never 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from strop.errors import UserError
from strop.evaluation.statistics import UNBOUNDED, Interval, cluster_bootstrap
from strop.evaluation.surface import distinct_share, word_pairs, words_of
from strop.methods.selfplay.cleaning import STRICT, broken_rules, folded_name, kept_parts
from strop.methods.selfplay.session_record import CUT, KEPT, PlanTry, SessionRecord
from strop.methods.selfplay.training_set import outcome_of
from strop.records.rows import SupervisedExample
from strop.runs import stream
from strop.runs.configuration import Config

if TYPE_CHECKING:
    import numpy as np

    from strop.models.embedding import Embedder, Vectors
    from strop.models.scoring import TokenScores

PERPLEXITY_ITEMS = 500
"""Items of which the paper takes the perplexity (appendix D)."""


class CollapseLimits(Config):
    """How far a round may fall behind the first one; one limit broken stops the run. Null switches a limit off."""

    illness_entropy: float | None = Field(1.0, gt=0)
    """Largest fall of the entropy of the named illnesses, in bits: 1 is half as many illnesses, in effect."""
    distinct_2_turns: float | None = Field(0.6, gt=0, lt=1)
    """Least share of different word pairs among all turns, over that of the first round."""
    distinct_2_plans: float | None = Field(0.6, gt=0, lt=1)
    """The same among all plans that were tried."""
    unnamed: float | None = Field(0.3, gt=0, lt=1)
    """Largest rise of the share of sessions whose diagnosis is no illness by the strict filter."""
    failed: float | None = Field(0.3, gt=0, lt=1)
    """Largest rise of the share of sessions that failed."""
    discarded: float | None = Field(0.3, gt=0, lt=1)
    """Largest rise of the share of turns that were discarded for breaking their role."""
    perplexity: float | None = Field(3.0, gt=1)
    """Most perplexity of a round's model on what came of its sessions, over that of the first round."""


@dataclass(frozen=True, slots=True)
class Monitors:
    """How a set of sessions went.

    Attributes:
        sessions: Sessions.
        failed: Those that ended before there was anything to learn from.
        failures: Sessions by the kind of failure, those that are partly learned from among them.
        converged: Share of the decoded sessions in which every field passed; None where no session was decoded.
        exchanges: Mean exchanges of a session that did not fail; None without one.
        similarity: Mean similarity of the last decoding over fields and sessions; None where nothing was compared.
        named: Sessions whose diagnosis is one illness by the strict filter.
        illnesses: Different illnesses among them, by folded name.
        illness_entropy: Entropy of the illnesses in bits; None without a named one. It grows with the number of
            sessions: compare rounds of the same size.
        commonest: The illness that is named most often; None without one.
        commonest_share: Its share of the named ones.
        distinct_2_patient: Share of different word pairs among the patients' turns (Li et al. 2016), over the first
            words of each.
        distinct_2_therapist: The same of the therapists' turns.
        distinct_2_plans: The same of all plans that were tried.
        treatment_scores: Tried treatments by score.
        medicine_scores: Tried medicines by score.
        unread_scores: Plans whose score could not be read.
        best_treatment: Mean best score of a treatment; None without a score.
        best_medicine: The same of medicines.
        said: Turns that were said.
        discarded: Turns that were discarded.
        faulty: Turns that were said although they had a fault.
        discarded_share: Discarded turns among all that were written; None where none was.
        reasons: Discarded and faulty turns by fault.
        leaked: Sentences that were taken out of the judge's feedback.
    """

    sessions: int
    failed: int
    failures: Mapping[str, int]
    converged: float | None
    exchanges: float | None
    similarity: float | None
    named: int
    illnesses: int
    illness_entropy: float | None
    commonest: str | None
    commonest_share: float | None
    distinct_2_patient: float | None
    distinct_2_therapist: float | None
    distinct_2_plans: float | None
    treatment_scores: Mapping[int, int]
    medicine_scores: Mapping[int, int]
    unread_scores: int
    best_treatment: float | None
    best_medicine: float | None
    said: int
    discarded: int
    faulty: int
    discarded_share: float | None
    reasons: Mapping[str, int]
    leaked: int

    @classmethod
    def of(cls, records: Sequence[SessionRecord]) -> Self:
        """Return the monitors of a round.

        Raises:
            UserError: There is no session.
        """
        if not records:
            raise UserError("there is no session to look at")
        went = [record for record in records if record.status != "failed"]
        decoded = [record for record in went if record.decoding]
        named = [name for record in records if (name := illness_of(record)) is not None]
        top = Counter(named).most_common(1)
        turns = [turn for record in records for turn in record.dialogue]
        plans = [plan for record in records for plan in (*record.treatments, *record.medicines)]
        ledger = [(entry.why, entry) for record in records for entry in record.ledger if entry.turn >= 0]
        faulty = sum(why.startswith(KEPT) for why, _ in ledger)
        discarded = len(ledger) - faulty - sum(why.startswith(CUT) for why, _ in ledger)
        return cls(
            sessions=len(records),
            failed=len(records) - len(went),
            failures=_sorted(record.failure.kind for record in records if record.failure),
            converged=_mean(record.stopped == "converged" for record in decoded),
            exchanges=_mean(record.exchanges for record in went),
            similarity=_mean(
                value for record in decoded for value in record.decoding[-1].similarities.values() if value is not None
            ),
            named=len(named),
            illnesses=len(set(named)),
            illness_entropy=entropy(named),
            commonest=top[0][0] if top else None,
            commonest_share=top[0][1] / len(named) if top else None,
            distinct_2_patient=_distinct_2(turn.text for turn in turns if turn.speaker == "patient"),
            distinct_2_therapist=_distinct_2(turn.text for turn in turns if turn.speaker == "therapist"),
            distinct_2_plans=_distinct_2(plan.plan for plan in plans),
            treatment_scores=_scores(plan for record in records for plan in record.treatments),
            medicine_scores=_scores(plan for record in records for plan in record.medicines),
            unread_scores=sum(plan.score is None for plan in plans),
            best_treatment=_mean(best for record in records if (best := _best(record.treatments)) is not None),
            best_medicine=_mean(best for record in records if (best := _best(record.medicines)) is not None),
            said=len(turns),
            discarded=discarded,
            faulty=faulty,
            discarded_share=discarded / (discarded + len(turns)) if discarded + len(turns) else None,
            reasons=_sorted(why.removeprefix(KEPT).removeprefix(CUT).strip() for why, _ in ledger),
            leaked=sum(len(decoding.leaked) for record in records for decoding in record.decoding),
        )

    def to_row(self) -> dict[str, Any]:
        """Return the monitors as JSON."""
        row = asdict(self)
        for name in ("treatment_scores", "medicine_scores"):
            row[name] = {str(score): count for score, count in row[name].items()}
        return row


def illness_of(record: SessionRecord) -> str | None:
    """Return the folded name of a session's illness; None where its diagnosis is none by the strict filter."""
    sound = "diagnosis" in kept_parts(broken_rules(outcome_of(record), STRICT))
    return folded_name(record.illness) if sound else None


def entropy(names: Iterable[Hashable]) -> float | None:
    """Return the entropy of names in bits, -sum p log2 p over their shares; None without any."""
    counts = Counter(names)
    total = counts.total()
    if not total:
        return None
    # Adding 0 turns the negative zero of a single name into zero.
    return -sum(count / total * math.log2(count / total) for count in counts.values()) + 0.0


def _distinct_2(texts: Iterable[str]) -> float | None:
    pairs = [pair for text in texts for pair in word_pairs(words_of(text))]
    return distinct_share(pairs) if pairs else None


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return fmean(known) if known else None


def _best(tried: Sequence[PlanTry]) -> int | None:
    return max((plan.score for plan in tried if plan.score is not None), default=None)


def _scores(tried: Iterable[PlanTry]) -> dict[int, int]:
    counts = Counter(plan.score for plan in tried if plan.score is not None)
    return {score: counts[score] for score in sorted(counts)}


def _sorted(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def sampled(
    examples: Sequence[SupervisedExample], *, seed: int, items: int = PERPLEXITY_ITEMS
) -> list[SupervisedExample]:
    """Return at most so many examples, drawn without replacement and kept in order (appendix D: 500)."""
    if len(examples) <= items:
        return list(examples)
    places = stream(seed, "selfplay", "perplexity").sample(range(len(examples)), items)
    return [examples[place] for place in sorted(places)]


def card_of(example: SupervisedExample) -> str:
    """Return the card that an example's id, ``CARD#PASS/PART``, begins with."""
    return str(example.id).rpartition("#")[0]


def perplexity(scores: Sequence[TokenScores]) -> float:
    """Return exp(-mean log p) over all tokens of all items (appendix D); a uniform model's is its vocabulary size.

    Args:
        scores: Log-probabilities in nats of each item's tokens, as `strop.models.scoring.completion_log_probs` gives
            them for the model of the round on items that it has generated.

    Raises:
        UserError: There is no token.
    """
    tokens = sum(len(item.tokens) for item in scores)
    if not tokens:
        raise UserError("a perplexity needs tokens", value=f"{len(scores)} items")
    return math.exp(-sum(item.total for item in scores) / tokens)


def perplexity_interval(
    scores: Sequence[TokenScores], cards: Sequence[Hashable], generator: np.random.Generator
) -> Interval:
    """Return the perplexity with its bootstrap interval over cards.

    Args:
        scores: See `perplexity`.
        cards: The card of each item.
        generator: Source of the draws.
    """
    estimate = perplexity(scores)
    rows = [(item.total, float(len(item.tokens))) for item in scores]
    found = cluster_bootstrap(
        rows, cards, generator, statistic=lambda drawn: float(-drawn[:, 0].sum() / drawn[:, 1].sum()), bounds=UNBOUNDED
    )
    return Interval(estimate, _exp(found.low), _exp(found.high), found.n, found.level, found.groups)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def gains(new: Vectors, previous: Vectors) -> list[float]:
    """Return how far each new item is from everything before: the smallest Euclidean distance to a previous item.

    Args:
        new: Vectors ``(n, width)`` of the new items.
        previous: Vectors ``(m, width)`` of all items before.

    Raises:
        UserError: A set is empty, or their widths differ.
    """
    from scipy.spatial.distance import cdist

    if not len(new) or not len(previous) or new.shape[1] != previous.shape[1]:
        raise UserError(
            "a gain in diversity needs two sets of vectors of one width", value=f"{new.shape} and {previous.shape}"
        )
    # Differences, not products: an item that is repeated is exactly 0 away.
    return [float(cdist(row[None], previous).min()) for row in new]


def diversity_gain(new: Vectors, previous: Vectors) -> float:
    """Return the mean of `gains` (appendix D); 0 where every new item was there before.

    Differs from the paper in the embedder, which there is text-embedding-ada-002: values compare within one embedder.
    """
    return fmean(gains(new, previous))


def diversity_interval(
    new: Sequence[SupervisedExample],
    previous: Sequence[SupervisedExample],
    embedder: Embedder,
    generator: np.random.Generator,
) -> Interval:
    """Return the diversity gain of what is learned in a round, with its bootstrap interval over cards.

    The answers are compared, not the patients' stories, which are the same in every round.

    Args:
        new: The examples of the round.
        previous: Those of all rounds before.
        embedder: Gives the vectors.
        generator: Source of the draws.

    Raises:
        UserError: A set is empty.
    """
    vectors = [embedder.encode([example.response for example in side]) for side in (new, previous)]
    found = gains(*vectors)
    # Vectors have length 1: no two are further apart than 2.
    return cluster_bootstrap(found, [card_of(example) for example in new], generator, bounds=(0.0, 2.0))
