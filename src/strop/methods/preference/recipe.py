"""From written principles to an aligned counsellor model (PsychoCounsel, arXiv 2502.19731), one stage a line.

Speeches, responses of a pool of models, ratings by the principles, pairs; a reward model; offline DPO and online
iterative DPO; and what the policies are worth on speeches that nothing was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from strop.judging.contest.answering import Contestant, respond
from strop.judging.contest.duels import judge
from strop.judging.contest.results import Evaluation, summarise
from strop.methods.preference.config import PreferenceConfig, RewardModel
from strop.methods.preference.document import document
from strop.methods.preference.evidence import (
    DPO,
    INITIAL,
    LABELS,
    ONLINE,
    PROMPTED,
    Contest,
    Evidence,
    Iteration,
    Online,
)
from strop.methods.preference.labelling_stages import answer_candidates, rate_candidates
from strop.methods.preference.online_config import OnlineSettings
from strop.methods.preference.online_stages import (
    CHOSEN,
    choose_checkpoint,
    examine,
    improve,
    keep_policy,
    pick_pairs,
    sample_slice,
    score_samples,
    watch,
)
from strop.methods.preference.policies import Answering, is_whole
from strop.methods.preference.preflight import Cleared, preflight, provenance_of
from strop.methods.preference.results import compare_policies
from strop.methods.preference.stages import (
    build_pairs,
    draw_speeches,
    examine_reward,
    held_out,
    optimise,
    publish_pairs,
    take_rated,
    train_reward,
)
from strop.records.document import Document
from strop.runs import Artifact, Run, derive_seed
from strop.training.machine import Model

START = "online-start"
"""Stage that examines the initial policy before the first round."""


def preference(config: PreferenceConfig, run: Run) -> Document:
    """Run the method and tell what came out."""
    cleared = preflight(config)
    return document(config, run, cleared, PreferenceRun(config, run, cleared).evidence())


@dataclass(frozen=True)
class PreferenceRun:
    """One run of the method."""

    config: PreferenceConfig
    run: Run
    cleared: Cleared

    def evidence(self) -> Evidence:
        """Run every stage in the paper's order, and return what the report is made from."""
        c = self.config
        speeches = self.stage(draw_speeches, c.speeches, seed=c.seed, name="speeches")

        # Labels: four models answer each speech, a judge rates by the principles, pairs follow from the sums.
        rated = self.rated(speeches)
        pairs = self.stage(build_pairs, rated, settings=c.pairs, seed=c.seed, name="pairs")
        told = {"settings": c.pairs, "provenance": provenance_of(c, self.cleared), "seed": c.seed}
        published = self.stage(publish_pairs, pairs, rated, **told, name="pair-files")

        # Rewards: the one that trains the policy, and one from other data that only looks on.
        rewards = {"reward": self.reward(c.reward, speeches, pairs, name="reward")}
        if c.second_reward is not None:
            rewards["second"] = self.reward(c.second_reward, speeches, pairs, name="second-reward")
        quality = {
            name: self.stage(
                examine_reward, model, pairs, seed=self.seed("quality"), placement=c.machine, name=f"{name}-quality"
            )
            for name, model in rewards.items()
        }

        # Policies: as it was, after offline DPO on the pairs, after online DPO on its own samples.
        policies: dict[str, Artifact] = {}
        if c.policy.dpo is not None:
            policies[DPO] = self.stage(
                optimise,
                c.policy.model,
                pairs,
                system=c.policy.system,
                settings=c.policy.dpo,
                machine=c.machine,
                seed=self.seed("dpo"),
                name="dpo",
            )
        online = None
        if c.policy.online is not None:
            online = self.online(c.policy.online, speeches, rewards)
            if online.chosen:
                policies[ONLINE] = self.whole(online.iterations[online.chosen - 1].policy)

        tested = {
            arm: self.examined(policy, speeches, rewards, split="test", name=f"test-{arm}")
            for arm, policy in self.arms(policies).items()
        }
        gains = self.stage(compare_policies, tested, initial=INITIAL, seed=self.seed("gains"), name="gains")
        contests = tuple(self.contests(speeches, policies, rewards))
        return Evidence(speeches, pairs, published, rewards, quality, policies, online, tested, gains, contests)

    def rated(self, speeches: Artifact) -> Artifact:
        """Return rated responses to the speeches: made by pool and judge, or taken from files."""
        c = self.config
        if c.candidates is None or c.ratings is None:
            return self.stage(take_rated, c.rated, speeches, name="rated")
        kept = {"seed": self.seed("labels"), "placement": c.machine}
        answered = self.stage(answer_candidates, speeches, candidates=c.candidates, **kept, name="candidates")
        return self.stage(rate_candidates, answered, ratings=c.ratings, **kept, name="rated")

    def reward(self, reward: RewardModel, speeches: Artifact, pairs: Artifact, *, name: str) -> Artifact:
        """Train a reward model, on pairs of its own where it has rated files of its own."""
        c = self.config
        if reward.rated:
            rated = self.stage(take_rated, reward.rated, speeches, name=f"{name}-rated")
            pairs = self.stage(build_pairs, rated, settings=c.pairs, seed=c.seed, name=f"{name}-pairs")
        return self.stage(
            train_reward,
            pairs,
            reward=reward,
            machine=c.machine,
            seed=self.seed("training", name),
            name=f"{name}-model",
        )

    def online(self, settings: OnlineSettings, speeches: Artifact, rewards: Mapping[str, Artifact]) -> Online:
        """Sample, score, pair, train, look: round by round, until the last or until the watch stops the run."""
        c, initial = self.config, self.config.policy.model
        ranks: Artifact | str = settings.reward or rewards["reward"]
        kept: dict[str, Any] = {"system": c.policy.system}
        watched = {name: rewards[name] for name in rewards} | ({"ranking": ranks} if settings.reward else {})
        start = self.examined(initial, speeches, watched, split="development", name=START)
        policy: Model = initial
        iterations: list[Iteration] = []
        for number in range(1, settings.iterations + 1):
            name = f"online{number}"
            samples = self.stage(
                sample_slice,
                policy,
                speeches,
                initial=initial,
                iteration=number - 1,
                settings=settings,
                **kept,
                seed=self.seed("samples", number),
                placement=c.machine,
                name=f"{name}-samples",
            )
            scores = self.stage(score_samples, samples, ranks, placement=c.machine, name=f"{name}-rewards")
            picked = self.stage(pick_pairs, samples, scores, settings=settings, **kept, name=f"{name}-pairs")
            policy = self.stage(
                improve,
                policy,
                picked,
                initial=initial,
                settings=settings.train,
                machine=c.machine,
                seed=self.seed("online", number),
                name=f"{name}-policy",
            )
            examined = self.examined(policy, speeches, watched, split="development", name=f"{name}-examined")
            seen = self.stage(
                watch,
                examined,
                start,
                limits=settings.limits,
                iteration=number,
                seed=self.seed("watch"),
                name=f"{name}-watch",
            )
            iterations.append(Iteration(number, picked, policy, examined, seen))
        candidates = {START: start, **{one.policy.name: one.examined for one in iterations}}
        decides = "ranking" if settings.reward else "reward"
        choice = self.stage(choose_checkpoint, candidates, reward=decides, name="online-choice")
        chosen = json.loads(choice.path(CHOSEN).read_text(encoding="utf-8"))["chosen"]
        number = next((one.number for one in iterations if one.policy.name == chosen), 0)
        return Online(start, tuple(iterations), number, choice)

    def whole(self, policy: Artifact) -> Artifact:
        """Return a policy as whole weights, which anything can open."""
        if is_whole(policy):
            return policy
        return self.stage(keep_policy, policy, initial=self.config.policy.model, name="online-policy")

    def arms(self, policies: Mapping[str, Artifact]) -> dict[str, Model]:
        """Return the policies that answer test speeches: the initial one and those that were trained."""
        return {INITIAL: self.config.policy.model, **policies}

    def examined(
        self, policy: Model, speeches: Artifact, rewards: Mapping[str, Artifact | str], *, split: str, name: str
    ) -> Artifact:
        """Answer held-out speeches and look at the answers."""
        c = self.config
        return self.stage(
            examine,
            policy,
            c.policy.model,
            speeches,
            split=split,
            rewards=rewards,
            answering=Answering(c.policy.system, c.policy.max_tokens, self.seed("examined", split)),
            limit=c.policy.examined if split == "development" else None,
            placement=c.machine,
            name=name,
        )

    def contests(
        self, speeches: Artifact, policies: Mapping[str, Artifact], rewards: Mapping[str, Artifact]
    ) -> Iterator[Contest]:
        """Compare every policy with the opponent, at each word limit; both contestants are asked to keep to it."""
        comparison = self.config.comparison
        if comparison is None:
            return
        prompts = self.stage(held_out, speeches, limit=comparison.limit, name="comparison-prompts")
        judges = comparison.judge or rewards["second"]
        for limit in comparison.word_limits:
            suffix = f"-{limit}-words" if limit else ""
            answers = {
                arm: self.answers(prompts, contestant, policies.get(arm), limit, name=f"{arm}-answers{suffix}")
                for arm, contestant in self.contestants(policies).items()
            }
            opponent = answers[INITIAL]
            if comparison.opponent is not None:
                opponent = self.answers(prompts, comparison.opponent, None, limit, name=f"opponent-answers{suffix}")
            for arm, own in answers.items():
                if own is opponent:
                    continue
                made = self.stage(
                    judge,
                    prompts,
                    own,
                    opponent,
                    settings=judges,
                    seed=self.seed("sides"),
                    placement=self.config.machine,
                    name=f"{arm}-comparisons{suffix}",
                )
                settings = Evaluation(resamples=comparison.resamples, confidence=comparison.confidence)
                results = self.stage(
                    summarise, prompts, own, opponent, made, settings=settings, name=f"{arm}-win-rate{suffix}"
                )
                yield Contest(arm, limit, own, opponent, made, results)

    def contestants(self, policies: Mapping[str, Artifact]) -> dict[str, Contestant]:
        """Return how each policy stands in a comparison; the tuned prompt is the initial policy under other words."""
        policy, comparison = self.config.policy, self.config.comparison
        plain = {"model": policy.model, "max_tokens": policy.max_tokens}
        found = {arm: Contestant(**plain, name=LABELS[arm], system=policy.system) for arm in self.arms(policies)}
        if comparison is not None and comparison.tuned_prompt:
            found[PROMPTED] = Contestant(**plain, name=LABELS[PROMPTED], system=comparison.tuned_prompt)
        return found

    def answers(
        self, prompts: Artifact, contestant: Contestant, trained: Artifact | None, limit: int | None, *, name: str
    ) -> Artifact:
        """Let a contestant answer the prompts of a comparison."""
        return self.stage(
            respond,
            prompts,
            contestant,
            seed=self.seed("answers"),
            placement=self.config.machine,
            trained=trained,
            word_limit=limit,
            name=name,
        )

    def seed(self, *names: str | int) -> int:
        """Return the seed of a named part of the run."""
        return derive_seed(self.config.seed, *map(str, names))

    def stage(self, function: Callable[..., None], *inputs: Any, name: str, **settings: Any) -> Artifact:
        """Run a stage."""
        return self.run.stage(function, *inputs, name=name, **settings)
