"""The stages of online iterative DPO: sample, score, pair, train, examine, watch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from strop.errors import Stopped, UserError
from strop.judging.contest.answering import addressed
from strop.methods.preference.online import best_and_worst, slice_of
from strop.methods.preference.online_config import OnlineSettings, WatchLimits
from strop.methods.preference.watch import Measures, breaches, measure
from strop.models.asking import ask_each
from strop.models.placement import Placement, open_placed
from strop.models.protocol import Sampling
from strop.models.rewards import open_reward
from strop.models.spec import ModelSpec
from strop.records.rows import Prompt, prompt_from_json, prompt_to_json
from strop.runs import Artifact, Stage
from strop.runs.calls import FailedCall, StoredCall
from strop.safety.gate import reply_gate
from strop.training.machine import Machine, Model, train_in, weights_of
from strop.training.settings import PreferenceSettings

MEASURES = "measures.json"


def open_policy(policy: Model, placement: Placement) -> Any:
    """Open a policy to answer: a model of the configuration, or one that the run has trained."""
    return open_placed(policy if isinstance(policy, ModelSpec) else policy.path("model"), placement)


def _answers(
    stage: Stage,
    policy: Model,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    samples: int,
    placement: Placement,
) -> list[tuple[StoredCall, ...]]:
    """Return the answers to each prompt; a call that failed stops, for a missing sample would shift the ranking."""
    model = open_policy(policy, placement)
    rows: list[tuple[StoredCall, ...]] = []
    try:
        with stage.progress(f"{stage.name}: {model.name}", len(prompts) * samples) as advance:
            for outcomes in ask_each(model, prompts, sampling, samples=samples, store=stage.store, advance=advance):
                for outcome in outcomes:
                    if isinstance(outcome, FailedCall):
                        fix = "leave out the speech or raise the model's context; what was answered is kept"
                        raise UserError("the policy did not answer", value=outcome.kind, why=outcome.message, fix=fix)
                rows.append(tuple(one for one in outcomes if isinstance(one, StoredCall)))
    finally:
        model.close()
    return rows


def sample_slice(
    stage: Stage,
    policy: Model,
    speeches: Artifact,
    *,
    iteration: int,
    settings: OnlineSettings,
    system: str,
    seed: int,
    placement: Placement,
) -> None:
    """Let the policy answer a round's speeches several times: rows of `id`, `speech` and `responses`."""
    rows = slice_of(speeches.rows("train.jsonl"), iteration=iteration, size=settings.speeches)
    sampling = Sampling(settings.temperature, max_tokens=settings.max_tokens, seed=seed)
    prompts = [addressed(row["speech"], system) for row in rows]
    answers = _answers(stage, policy, prompts, sampling, samples=settings.samples, placement=placement)
    stage.write_rows(
        {"id": row["id"], "speech": row["speech"], "responses": [one.text for one in given]}
        for row, given in zip(rows, answers, strict=True)
    )


def score_samples(stage: Stage, samples: Artifact, reward: Artifact | str, *, placement: Placement) -> None:
    """Reward every sample: rows of `id` and `rewards`, in the samples' order."""
    rows = samples.rows()
    items = [(row["speech"], text) for row in rows for text in row["responses"]]
    scores = iter(rewards_of(stage, items, reward, placement=placement))
    stage.write_rows({"id": row["id"], "rewards": [next(scores) for _ in row["responses"]]} for row in rows)


def rewards_of(
    stage: Stage, items: Sequence[tuple[Prompt, str]], reward: Artifact | str, *, placement: Placement
) -> list[float]:
    """Return the rewards of responses.

    Args:
        stage: Shows the progress.
        items: Speech and response.
        reward: An artifact with a reward model that the run has trained, or what `open_reward` opens.
        placement: Where it runs.
    """
    opened = open_reward(reward if isinstance(reward, str) else reward.path("model"), placement)
    try:
        with stage.progress(f"{stage.name}: rewards of {opened.name}", len(items)) as advance:
            return list(opened.score(items, advance=advance))
    finally:
        opened.close()


def pick_pairs(stage: Stage, samples: Artifact, scores: Artifact, *, gate: bool, system: str) -> None:
    """Pair the best sample of each speech with its worst: `pairs.jsonl`, and `picked.json` with what was left out."""
    rewards = {row["id"]: row["rewards"] for row in scores.rows()}
    counts: Counter[str] = Counter()
    pairs: list[dict[str, Any]] = []
    for row in samples.rows():
        speech = row["speech"]

        def passes(text: str, speech: str = speech) -> bool:
            return not gate or reply_gate(speech, text).passed

        picked = best_and_worst(row["id"], row["responses"], rewards[row["id"]], passes=passes)
        if isinstance(picked, str):
            counts[picked] += 1
            continue
        pairs.append(
            {
                "id": row["id"],
                "prompt": prompt_to_json(addressed(speech, system)),
                "chosen": picked.chosen,
                "rejected": picked.rejected,
                "chosen_reward": picked.chosen_reward,
                "rejected_reward": picked.rejected_reward,
            }
        )
    if not pairs:
        raise UserError(
            "no speech of this round gives a pair",
            value=dict(counts),
            why="the reward model gives equal rewards, or every sample is the same or fails the safety gate",
            fix="look at the samples and at the reward model's test figures; raise 'samples' or 'temperature'",
        )
    stage.write_rows(pairs, "pairs.jsonl")
    told = {"pairs": len(pairs), "skipped": dict(sorted(counts.items()))}
    (stage.folder / "picked.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def improve(
    stage: Stage,
    policy: Model,
    pairs: Artifact,
    *,
    initial: Model,
    settings: PreferenceSettings,
    machine: Machine,
    seed: int,
) -> None:
    """Train the policy on a round's pairs by DPO; the reference is the initial policy in every round."""
    reference = None if weights_of(policy) == weights_of(initial) else initial
    rows = pairs.path("pairs.jsonl")
    train_in(stage, policy, rows, kind="dpo", settings=settings, machine=machine, seed=seed, reference=reference)


def examine(
    stage: Stage,
    policy: Model,
    initial: Model,
    speeches: Artifact,
    *,
    split: str,
    rewards: Mapping[str, Artifact],
    system: str,
    max_tokens: int,
    limit: int | None,
    seed: int,
    placement: Placement,
) -> None:
    """Answer speeches that nothing was trained on, and tell how the answers are rewarded and what they look like.

    One sample a speech at temperature 1, drawn with the same noise for every policy; only such samples tell the
    divergence from the initial policy. `rows.jsonl` has `id`, `prompt`, `response`, `finish`, the reward by each reward
    model, and `log_ratio` over `tokens`; `measures.json` sums them up.

    Args:
        stage: Where to write and to ask.
        policy: Who answers.
        initial: The reference.
        speeches: The artifact of speeches.
        split: Which of its tables: development or test.
        rewards: The reward models by name.
        system: The policy's system message.
        max_tokens: Longest answer.
        limit: The first so many speeches; None takes all.
        seed: Of the samples.
        placement: Where models run.
    """
    rows = speeches.rows(f"{split}.jsonl")[:limit]
    prompts = [addressed(row["speech"], system) for row in rows]
    sampling = Sampling(1.0, max_tokens=max_tokens, seed=seed)
    answers = [one for (one,) in _answers(stage, policy, prompts, sampling, samples=1, placement=placement)]
    items = [(row["speech"], one.text) for row, one in zip(rows, answers, strict=True)]
    scored = {name: rewards_of(stage, items, reward, placement=placement) for name, reward in rewards.items()}
    ratios = log_ratios(policy, initial, prompts, [one.text for one in answers], placement=placement)
    stage.write_rows(
        {
            "id": row["id"],
            "prompt": row["speech"],
            "response": one.text,
            "finish": one.finish,
            "rewards": {name: values[place] for name, values in scored.items()},
            "log_ratio": ratios[place][0],
            "tokens": ratios[place][1],
        }
        for place, (row, one) in enumerate(zip(rows, answers, strict=True))
    )
    kl = sum(ratio for ratio, _ in ratios) / max(sum(tokens for _, tokens in ratios), 1)
    measures = measure([one.text for one in answers], cut=[one.finish == "length" for one in answers], kl=kl)
    told = {**measures.to_row(), "rewards": {name: fmean(values) for name, values in scored.items()}}
    (stage.folder / MEASURES).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def log_ratios(
    policy: Model, initial: Model, prompts: Sequence[Prompt], answers: Sequence[str], *, placement: Placement
) -> list[tuple[float, int]]:
    """Return log(policy / initial) of each answer, in nats, with its tokens; exactly zero for the initial policy.

    Their sum over the sum of the tokens estimates the divergence KL(policy || initial) a token, if the answers are
    samples of the policy at temperature 1.
    """
    from strop.models.local import LocalModel
    from strop.models.scoring import completion_log_probs

    folders: dict[Path, list[Any]] = dict.fromkeys((weights_of(policy), weights_of(initial)), [])
    for folder in folders:
        model = LocalModel(folder, device=placement.device, dtype=placement.dtype)
        try:
            folders[folder] = completion_log_probs(model, prompts, answers)
        finally:
            model.close()
    ours, theirs = folders[weights_of(policy)], folders[weights_of(initial)]
    return [(one.total - other.total, len(one.tokens)) for one, other in zip(ours, theirs, strict=True)]


def read_measures(examined: Artifact) -> Measures:
    """Return the measures that `examine` wrote."""
    told = json.loads(examined.path(MEASURES).read_text(encoding="utf-8"))
    return Measures(**{key: value for key, value in told.items() if key != "rewards"})


def watch(stage: Stage, now: Artifact, start: Artifact, *, limits: WatchLimits, iteration: int) -> None:
    """Compare a round's policy with the initial one: `watch.json`; a crossed limit stops the run.

    Raises:
        Stopped: The policy has moved further than a limit allows. All rounds so far are kept.
    """
    measured, first = read_measures(now), read_measures(start)
    broken = breaches(measured, first, limits)
    if broken:
        stage.note(breaches=[breach.told for breach in broken], measures=measured.to_row(), start=first.to_row())
        raise Stopped(
            f"over-optimisation: after round {iteration} {broken[0].told}",
            value="; ".join(breach.told for breach in broken),
            why="the policy pleases its reward model by other means than better answers",
            fix="train less (a lower learning_rate, fewer iterations, a larger beta), use a better reward model, or set "
            "policy.online.limits; to keep the rounds before, set policy.online.iterations to their number",
        )
    told = {"measures": measured.to_row(), "start": first.to_row(), "breaches": []}
    (stage.folder / "watch.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def choose_checkpoint(stage: Stage, examined: Mapping[str, Artifact], *, reward: str) -> None:
    """Choose the policy with the highest mean development reward: `chosen.json`; of equal ones the earliest.

    Args:
        stage: Where to write.
        examined: What `examine` found of each policy, by the name of the stage that made it.
        reward: The name of the reward model that decides.
    """
    means = {name: _mean_reward(one, reward) for name, one in examined.items()}
    best = max(means, key=lambda name: means[name])
    told = {"chosen": best, "means": means, "reward": reward}
    (stage.folder / "chosen.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _mean_reward(examined: Artifact, reward: str) -> float:
    return fmean(row["rewards"][reward] for row in examined.rows())
