"""What a preference-learning run needs, before anything is spent: calls, tokens, money and time, in ranges.

Before the answers nothing is known but how many calls there are. The lengths of answers and the speeds are assumptions
of the recipe (`planning`); prices are the models' own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from math import ceil, floor
from pathlib import Path

from strop.judging.contest.answering import Contestant
from strop.judging.rubric import load_rubric
from strop.judging.settings import JudgeSettings
from strop.methods.preference.config import PreferenceConfig
from strop.methods.preference.preflight import preflight
from strop.methods.preference.speeches import load_speeches
from strop.models.forecasting import Expected
from strop.models.lengths import Range
from strop.models.spec import ModelSpec
from strop.training.mixing import Mix
from strop.training.planning import Plan, PlannedStage, Totals, training_steps
from strop.training.settings import TrainingSettings

ORDERS = 2


@dataclass(frozen=True, slots=True)
class Counts:
    """How many speeches there are, by split; by the splits' shares where the files are not here."""

    train: int
    development: int
    test: int
    known: bool

    @property
    def speeches(self) -> int:
        """All of them."""
        return self.train + self.development + self.test


def plan(config: PreferenceConfig, *, workspace: Path) -> Plan:
    """Return what a run of `config` needs.

    Args:
        config: The settings of the run.
        workspace: Where its calls would be stored; nothing is read or changed there.

    Raises:
        UserError: A model is missing or a judge may not judge; or the files are not here and `planning.speeches` is
            not given.
    """
    counts = count_speeches(config)
    cleared = preflight(config, files=counts.known)
    stages = tuple(Planner(config, counts).stages())
    total = Totals.of(stages)
    return Plan(stages, total, (*_notes(config, counts, total), *cleared.warnings))


def count_speeches(config: PreferenceConfig) -> Counts:
    """Return how many speeches a run has: counted in the files, or as the recipe's `planning` says."""
    settings, assumed = config.speeches, config.planning.speeches
    if assumed is not None and not all(path.exists() for path in settings.files):
        test, development = (round(assumed * share) for share in (settings.test, settings.development))
        return Counts(assumed - test - development, development, test, known=False)
    splits = Counter(speech.split for speech in load_speeches(settings, seed=config.seed).speeches)
    return Counts(splits["train"], splits["development"], splits["test"], known=True)


@dataclass(frozen=True, slots=True)
class Planner:
    """Counts a run's stages in the recipe's order."""

    config: PreferenceConfig
    counts: Counts

    def stages(self) -> Iterator[PlannedStage]:
        """Yield what each stage needs."""
        c = self.config
        yield PlannedStage("speeches")
        responses = 4
        if c.candidates is not None and c.ratings is not None:
            responses = c.candidates.per_speech
            yield self._candidates(c.candidates.pool, self.counts.speeches * responses)
            yield self._ratings(c.ratings.judge, self.counts.speeches * responses)
        yield PlannedStage("pairs")
        pairs = Range(1, self.counts.train * responses * (responses - 1) // 2)
        for name, reward in (("reward-model", c.reward), ("second-reward-model", c.second_reward)):
            if reward is not None:
                yield self._training(name, reward.model, reward.train, _mixture(pairs, reward.mix))
        policy = c.policy.model
        if c.policy.dpo is not None:
            yield self._training("dpo", policy, c.policy.dpo, pairs)
        if c.policy.online is not None:
            yield from self._online()
        policies = 1 + (c.policy.dpo is not None) + (c.policy.online is not None)
        yield self._examined("test answers", policies * self.counts.test)
        if c.comparison is not None:
            yield from self._comparisons()

    def _calls(
        self, stage: str, models: Sequence[ModelSpec], calls: int, *, read: tuple[int, int], written: tuple[int, int]
    ) -> PlannedStage:
        """Return a stage of so many calls, shared evenly by `models`, with money where all their prices are known."""
        prompt, completion = (Range(low * calls, high * calls) for low, high in (read, written))
        costs = []
        for model in models:
            price = model.known_price
            if price is None:
                break
            low, high = (price.cost(prompt_tokens=r, completion_tokens=w) for r, w in zip(read, written, strict=True))
            costs.append(Expected((low + high) / 2, low, high).times(calls / len(models)))
        return PlannedStage(
            stage,
            models[0].model if len(models) == 1 else f"{len(models)} models",
            calls,
            prompt_tokens=prompt,
            completion_tokens=completion,
            seconds=self._speaking(prompt.plus(completion)),
            money=reduce(Expected.plus, costs) if len(costs) == len(models) else None,
        )

    def _speaking(self, tokens: Range) -> Range | None:
        speed = self.config.planning.tokens_per_second
        return None if speed is None else Range(floor(tokens.low / speed[1]), ceil(tokens.high / speed[0]))

    def _training(self, stage: str, model: ModelSpec, settings: TrainingSettings, rows: Range) -> PlannedStage:
        steps, pace = training_steps(settings, rows), self.config.planning.seconds_per_step
        seconds = None if pace is None else Range(floor(steps.low * pace[0]), ceil(steps.high * pace[1]))
        return PlannedStage(stage, model.model, steps=steps, seconds=seconds)

    def _candidates(self, pool: Sequence[Contestant], calls: int) -> PlannedStage:
        assumed = self.config.planning
        models = [one.model for one in pool]
        return self._calls("candidates", models, calls, read=assumed.speech_tokens, written=assumed.response_tokens)

    def _judged(self) -> tuple[int, int]:
        """Return the tokens of a judge's question about one response."""
        assumed = self.config.planning
        parts = (assumed.rubric_tokens, assumed.speech_tokens, assumed.response_tokens)
        return sum(low for low, _ in parts), sum(high for _, high in parts)

    def _ratings(self, judge: JudgeSettings, responses: int) -> PlannedStage:
        ratings = self.config.ratings
        assert ratings is not None
        each = len(load_rubric(judge.rubric).criteria) if ratings.mode == "each" else 1
        calls = responses * each * (1 + ratings.repeats)
        reply = self.config.planning.reply_tokens
        return self._calls("ratings", [judge.model], calls, read=self._judged(), written=reply)

    def _examined(self, stage: str, calls: int) -> PlannedStage:
        """Return a stage in which policies answer held-out speeches, one sample each."""
        assumed, longest = self.config.planning, self.config.policy.max_tokens
        low, high = assumed.response_tokens
        written = (min(low, longest), min(high, longest))
        return self._calls(stage, [self.config.policy.model], calls, read=assumed.speech_tokens, written=written)

    def _online(self) -> Iterator[PlannedStage]:
        online, assumed = self.config.policy.online, self.config.planning
        assert online is not None
        calls = online.iterations * online.speeches * online.samples
        low, high = assumed.response_tokens
        written = (min(low, online.max_tokens), min(high, online.max_tokens))
        policy = self.config.policy.model
        yield self._calls("online: samples", [policy], calls, read=assumed.speech_tokens, written=written)
        scored = Range(calls * (assumed.speech_tokens[0] + written[0]), calls * (assumed.speech_tokens[1] + written[1]))
        yield PlannedStage("online: rewards", self.config.reward.model.model, seconds=self._speaking(scored))
        steps = self._training("", policy, online.train, Range(1, online.speeches))
        yield PlannedStage(
            "online: DPO",
            policy.model,
            steps=steps.steps.times(online.iterations),
            seconds=None if steps.seconds is None else steps.seconds.times(online.iterations),
        )
        development = min(self.counts.development, self.config.policy.examined or self.counts.development)
        yield self._examined("online: development answers", (1 + online.iterations) * development)

    def _comparisons(self) -> Iterator[PlannedStage]:
        c, assumed = self.config, self.config.planning
        comparison = c.comparison
        assert comparison is not None
        prompts = min(self.counts.test, comparison.limit or self.counts.test)
        arms = 1 + bool(comparison.tuned_prompt) + (c.policy.dpo is not None) + (c.policy.online is not None)
        calls = prompts * arms * len(comparison.word_limits)
        read, written = assumed.speech_tokens, assumed.response_tokens
        yield self._calls("comparison: policies", [c.policy.model], calls, read=read, written=written)
        if comparison.opponent is not None:
            asked = prompts * len(comparison.word_limits)
            opponent = [comparison.opponent.model]
            yield self._calls("comparison: opponent", opponent, asked, read=read, written=written)
        judge = comparison.judge
        if judge is not None and not judge.fitted:
            aspects = 1 + (len(load_rubric(judge.rubric).criteria) if judge.per_criterion else 0)
            low, high = self._judged()
            question = (low + written[0], high + written[1])
            # Without an opponent the initial policy is the opponent: it answers, and does not stand against itself.
            compared = calls if comparison.opponent is not None else calls - prompts * len(comparison.word_limits)
            asked = compared * ORDERS * aspects
            yield self._calls("comparison: judge", [judge.model], asked, read=question, written=assumed.reply_tokens)


def _mixture(pairs: Range, mix: Mix | None) -> Range:
    """Return how many pairs a reward model learns from where general ones are mixed in."""
    if mix is None:
        return pairs
    return Range(2, max(2, floor(pairs.high / (1 - mix.share)))) if mix.total is None else Range.exactly(mix.total)


def told_total(total: Totals) -> str:
    """Return the sum of all stages in one line."""
    return f"All: {total}."


def _notes(config: PreferenceConfig, counts: Counts, total: Totals) -> Iterator[str]:
    where = "in the files" if counts.known else "as 'planning.speeches' says: the files are not here"
    yield (
        f"{counts.speeches:,} speeches {where}: {counts.train:,} to train on, {counts.development:,} for development, "
        f"{counts.test:,} for the test."
    )
    if config.candidates is not None and config.ratings is not None:
        principles = len(load_rubric(config.ratings.judge.rubric).criteria)
        responses = counts.speeches * config.candidates.per_speech
        yield (
            f"{config.candidates.per_speech} responses to each speech, {responses:,} in all, each rated on "
            f"{principles} principles: {responses * principles:,} ratings."
        )
    online = config.policy.online
    if online is not None:
        samples = online.iterations * online.speeches * online.samples
        yield (
            f"Online: {online.iterations} iterations x {online.speeches:,} speeches x {online.samples} samples = "
            f"{samples:,} samples."
        )
    yield told_total(total)
    yield "Lengths of answers and speeds are the assumptions of 'planning'; a pilot measures lengths."
    unpriced = sorted(model.model for model in _asked(config) if model.known_price is None)
    if unpriced:
        yield f"No price is known of {', '.join(unpriced)}: give each its 'price'; the money of its stage is left open."


def _asked(config: PreferenceConfig) -> Iterator[ModelSpec]:
    """Yield every model that is asked."""
    if config.candidates is not None:
        yield from (one.model for one in config.candidates.pool)
    if config.ratings is not None:
        yield config.ratings.judge.model
    if config.comparison is not None:
        yield from (one.model for one in (config.comparison.opponent, config.comparison.judge) if one is not None)
