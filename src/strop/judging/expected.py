"""The expected rating under a model's own probabilities of the scale's tokens: it has no reply, so none to misread.

The model reads the response and one criterion, and the word ``Rating:`` as the beginning of its answer. The next
token's probabilities of "1" to "5" give the expectation. How much of the whole vocabulary these five hold is reported
with it: where it is small, the model was about to say something else.

Weighting the scale's values by their token probabilities follows G-Eval (Liu et al. 2023), which estimates them by
sampling; here they are read off, and no reason is written before the rating.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from strop.errors import UserError
from strop.judging.parsing import ParseFailure
from strop.judging.prompts import bare_rating_prompt
from strop.judging.rating import Gate, gate_of
from strop.judging.rubric import SCALE, Rubric
from strop.models.asking import Advance
from strop.models.protocol import TextModel
from strop.records.rows import Answer, Identifier
from strop.records.token_choices import TokenChoice

if TYPE_CHECKING:
    from strop.models.local import LocalModel

STEM = "Rating:"
"""How the model's answer is made to begin."""
LOGITS_TOKENS = 4096
"""Most prompt tokens of one batch, padding included."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """A rating as a distribution over the scale.

    Attributes:
        value: The expected rating, 1 to 5.
        shares: Probability of each of 1 to 5, among these five.
        mass: Probability of the five among the whole vocabulary, 0 to 1.
    """

    value: float
    shares: tuple[float, ...]
    mass: float


@dataclass(frozen=True, slots=True)
class ExpectedRating:
    """One response's expectations.

    Attributes:
        id: The response's id.
        values: By criterion, in the rubric's order.
        mean: Weighted mean of the expected ratings.
        gate: Whether every gate is passed by expectation.
    """

    id: Identifier
    values: Mapping[str, Expectation]
    mean: float
    gate: Gate

    def to_row(self) -> dict[str, Any]:
        """Return the expectations as a row."""
        return {
            "id": self.id,
            "ratings": {key: expected.value for key, expected in self.values.items()},
            "mean": self.mean,
            "gate": self.gate,
            "mass": {key: expected.mass for key, expected in self.values.items()},
        }


def expected_ratings(
    model: LocalModel, items: Sequence[Answer], *, rubric: Rubric, advance: Advance | None = None
) -> list[ExpectedRating]:
    """Return the expected ratings of each response, in their order.

    Args:
        model: A loaded local model.
        items: The responses with what they answer.
        rubric: What to rate; each criterion is asked by itself.
        advance: Told how many expectations have come.

    Raises:
        UserError: The rubric has no criteria, a prompt is longer than the model's context, or the model's tokenizer
            does not tell the five numbers apart by one token.
    """
    rubric.require_criteria()
    pairs = [(item, criterion) for item in items for criterion in rubric.criteria]
    rows = [
        _prefix(model, bare_rating_prompt(item.prompt, item.response, criterion, rubric=rubric))
        for item, criterion in pairs
    ]
    expectations = iter(_expectations(model, rows, advance))
    found = [{key: next(expectations) for key in rubric.keys} for _ in items]
    weights = {criterion.key: criterion.weight for criterion in rubric.criteria}
    return [
        ExpectedRating(
            id=item.id,
            values=values,
            mean=sum(weights[key] * expected.value for key, expected in values.items()) / sum(weights.values()),
            gate=gate_of({key: expected.value for key, expected in values.items()}, rubric),
        )
        for item, values in zip(items, found, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Prefix:
    """Token ids up to where the rating would be stated, and the five tokens that would state it."""

    tokens: list[int]
    scale: tuple[int, ...]


def _prefix(model: LocalModel, prompt: Any) -> _Prefix:
    from strop.models.render import encode_examples

    stated = [(prompt, f"{STEM} {rating}") for rating in SCALE]
    encoded = [start + completion for start, completion in encode_examples(model.tokenizer, stated, chat=model.chat)]
    shared = next((place for place, tokens in enumerate(zip(*encoded, strict=False)) if len(set(tokens)) > 1), 0)
    scale = tuple(tokens[shared] for tokens in encoded)
    if len(set(scale)) < len(SCALE):
        raise UserError(
            f"{model.name} does not tell the ratings 1 to 5 apart by one token",
            value=scale,
            fix="ask this model for written ratings instead",
        )
    if shared > model.context:
        raise UserError(
            f"a prompt of {shared} tokens for a model that takes {model.context}",
            fix="leave out the long responses, or use a model with a longer context",
        )
    return _Prefix(encoded[0][:shared], scale)


def _expectations(model: LocalModel, rows: Sequence[_Prefix], advance: Advance | None) -> list[Expectation]:
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place].tokens))
    found: dict[int, Expectation] = {}
    start = 0
    while start < len(order):
        longest = len(rows[order[start]].tokens)
        places = order[start : start + max(1, LOGITS_TOKENS // longest)]
        found.update(zip(places, _score(model, [rows[place] for place in places]), strict=True))
        start += len(places)
        if advance is not None:
            advance(len(places))
    return [found[place] for place in range(len(rows))]


def _score(model: LocalModel, rows: Sequence[_Prefix]) -> list[Expectation]:
    """Return one batch's expectations; rows are padded on the left, so that all end where the rating would stand."""
    import torch

    longest = max(len(row.tokens) for row in rows)
    padding = [longest - len(row.tokens) for row in rows]

    def tensor(values: list[list[int]]) -> torch.Tensor:
        return torch.tensor(values, device=model.model.device)

    with torch.inference_mode():
        logits_bv = model.model(
            input_ids=tensor([[0] * gap + row.tokens for gap, row in zip(padding, rows, strict=True)]),
            attention_mask=tensor([[0] * gap + [1] * (longest - gap) for gap in padding]),
            position_ids=tensor([[0] * gap + list(range(longest - gap)) for gap in padding]),
            use_cache=False,
            logits_to_keep=1,
        ).logits[:, -1]
        log_probs_bv = torch.log_softmax(logits_bv.float(), dim=-1).cpu()
    return [
        _expectation([float(log_probs_v[token]) for token in row.scale])
        for log_probs_v, row in zip(log_probs_bv, rows, strict=True)
    ]


def _expectation(log_probs: Sequence[float]) -> Expectation:
    """Return the expectation from the log-probabilities of 1 to 5, of which not all may be impossible."""
    highest = max(log_probs)
    weights = [math.exp(value - highest) for value in log_probs]
    shares = tuple(weight / sum(weights) for weight in weights)
    value = sum(rating * share for rating, share in zip(SCALE, shares, strict=True))
    return Expectation(value, shares, min(1.0, sum(map(math.exp, log_probs))))


def expectation_of(log_probs: Sequence[TokenChoice] | None) -> Expectation | ParseFailure:
    """Return the expectation at the last place where a written reply states a rating token.

    Args:
        log_probs: The reply's tokens with their likeliest alternatives, as an endpoint reports them. Numbers that are
            not among the alternatives count as impossible, so `Expectation.mass` is a lower bound.

    Returns:
        The expectation, or a failure where there are no log-probabilities or no such token.
    """
    if not log_probs:
        return ParseFailure("missing", "the server gave no log-probabilities")
    names = {str(rating): rating for rating in SCALE}
    for choice in reversed(log_probs):
        if choice.token.strip() not in names:
            continue
        summed = dict.fromkeys(SCALE, 0.0)
        # A server may list the token itself among the alternatives, or not.
        for token, log_prob in {choice.token: choice.log_prob, **dict(choice.top)}.items():
            if token.strip() in names:
                summed[names[token.strip()]] += math.exp(log_prob)
        return _expectation([math.log(share) if share else -math.inf for share in summed.values()])
    return ParseFailure("missing", "no token of the reply is a rating")


def require_local(model: TextModel) -> LocalModel:
    """Return the model where its weights are here.

    Raises:
        UserError: They are not.
    """
    from strop.models.local import LocalModel

    if not isinstance(model, LocalModel):
        raise UserError(
            "expected ratings need a model whose weights are on this machine",
            value=model.name,
            why="they are read from its probabilities, not from its words",
            fix="leave out --expected, or give a local folder or a builtin",
        )
    return model
