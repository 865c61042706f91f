"""The stages of online iterative DPO: sample, score, pair, train, examine, watch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from strop.errors import Stopped, UserError
from strop.judging.contest.answering import addressed
from strop.methods.preference.online import best_and_worst, slice_of
from strop.methods.preference.online_config import OnlineSettings, WatchLimits
from strop.methods.preference.policies import Answering, adapter_of, is_whole, open_policy, policy_weights
from strop.methods.preference.watch import Look, Measures, watched
from strop.models.asking import ask_each
from strop.models.placement import Placement
from strop.models.protocol import Sampling
from strop.models.rewards import open_reward
from strop.records.rows import Prompt, prompt_to_json
from strop.records.tables import align
from strop.runs import Artifact, Stage, derive_seed
from strop.runs.calls import FailedCall, StoredCall
from strop.safety.gate import reply_gate
from strop.training.machine import Machine, Model, train_in, weights_of
from strop.training.settings import PreferenceSettings
from strop.training.weights import merged_folder

MEASURES, WATCH, CHOSEN = "measures.json", "watch.json", "chosen.json"
CUT = "length"
"""How an answer ends that the token limit cut."""


def _answers(
    stage: Stage,
    policy: Model,
    initial: Model,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    samples: int,
    placement: Placement,
) -> list[tuple[StoredCall, ...]]:
    """Return the answers to each prompt; a call that failed stops, for a missing sample would shift the ranking."""
    model = open_policy(stage, policy, initial, placement)
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
    initial: Model,
    iteration: int,
    settings: OnlineSettings,
    system: str,
    seed: int,
    placement: Placement,
) -> None:
    """Let the policy answer a round's speeches several times: rows of `id`, `speech`, `responses` and `finishes`.

    Args:
        stage: Where to write and to ask: slice x samples calls, none of them twice.
        policy: Who answers.
        speeches: Holds `train.jsonl` with `id` and `speech`.
        initial: The policy before the first round.
        iteration: The round, from 0.
        settings: Size of the slice, samples, temperature, length.
        system: The policy's system message.
        seed: Of the samples.
        placement: Where the model answers.
    """
    rows = slice_of(speeches.rows("train.jsonl"), iteration=iteration, size=settings.speeches)
    sampling = Sampling(settings.temperature, max_tokens=settings.max_tokens, seed=seed)
    prompts = [addressed(row["speech"], system) for row in rows]
    answers = _answers(stage, policy, initial, prompts, sampling, samples=settings.samples, placement=placement)
    stage.write_rows(
        {
            "id": row["id"],
            "speech": row["speech"],
            "responses": [one.text for one in given],
            "finishes": [one.finish for one in given],
        }
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


def pick_pairs(stage: Stage, samples: Artifact, scores: Artifact, *, settings: OnlineSettings, system: str) -> None:
    """Pair the best sample of each speech with its worst: `pairs.jsonl`, and `picked.json` with what was left out.

    Raises:
        UserError: No speech gives a pair.
    """
    counts: Counter[str] = Counter()
    barred: Counter[str] = Counter()
    pairs: list[dict[str, Any]] = []
    for row, scored in align(samples.rows(), scores.rows(), names=(samples.name, scores.name)):
        faults = [_fault(row["speech"], *one, settings) for one in zip(row["responses"], row["finishes"], strict=True)]
        barred.update(fault for fault in faults if fault)
        allowed = [not fault for fault in faults]
        picked = best_and_worst(row["id"], row["responses"], scored["rewards"], allowed=allowed)
        if isinstance(picked, str):
            counts[picked] += 1
            continue
        pairs.append(
            {
                "id": row["id"],
                "prompt": prompt_to_json(addressed(row["speech"], system)),
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
            why="the reward model gives equal rewards, or every sample is the same, was cut or fails the safety gate",
            fix="look at the samples and at the reward model's test figures; raise 'samples', 'max_tokens' or "
            "'temperature'",
        )
    stage.write_rows(pairs, "pairs.jsonl")
    told = {"pairs": len(pairs), "skipped": dict(sorted(counts.items())), "barred": dict(sorted(barred.items()))}
    stage.write_json(told, "picked.json")


def _fault(speech: Prompt, text: str, finish: str, settings: OnlineSettings) -> str:
    """Return why a sample may not be chosen, or nothing."""
    if finish == CUT and not settings.cut_may_win:
        return "cut by the token limit"
    return "fails the safety gate" if settings.gate and not reply_gate(speech, text).passed else ""


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
    """Train the policy on a round's pairs by DPO; the reference is the initial policy in every round.

    With LoRA every round goes on training one adapter on the initial policy; with ``merge: false`` that adapter is all
    that a round leaves.
    """
    adapter = adapter_of(policy) if settings.lora is not None else None
    start = initial if adapter is not None else policy
    apart = adapter is not None or weights_of(policy) != weights_of(initial)
    train_in(
        stage,
        start,
        pairs.path("pairs.jsonl"),
        kind="dpo",
        settings=settings,
        machine=machine,
        seed=seed,
        reference=initial if apart else None,
        adapter=adapter,
    )


def keep_policy(stage: Stage, policy: Artifact, *, initial: Model) -> None:
    """Write the whole weights of a policy that is an adapter alone: the folder `model`, which anything can open."""
    adapter = adapter_of(policy)
    if adapter is None or is_whole(policy):
        raise ValueError(f"{policy.name} holds whole weights already")
    merged_folder(weights_of(initial), adapter, stage.folder / "model")


def examine(
    stage: Stage,
    policy: Model,
    initial: Model,
    speeches: Artifact,
    *,
    split: str,
    rewards: Mapping[str, Artifact | str],
    answering: Answering,
    limit: int | None,
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
        answering: How the policies answer; the same for all that are compared.
        limit: The first so many speeches; None takes all.
        placement: Where models run.
    """
    rows = speeches.rows(f"{split}.jsonl")[:limit]
    prompts = [addressed(row["speech"], answering.system) for row in rows]
    asked = _answers(stage, policy, initial, prompts, answering.sampling, samples=1, placement=placement)
    answers = [one for (one,) in asked]
    items = [(row["speech"], one.text) for row, one in zip(rows, answers, strict=True)]
    scored = {name: rewards_of(stage, items, reward, placement=placement) for name, reward in rewards.items()}
    ratios = log_ratios(stage, policy, initial, prompts, answers, placement=placement)
    examined = [
        {
            "id": row["id"],
            "prompt": row["speech"],
            "response": one.text,
            "finish": one.finish,
            "rewards": {name: values[place] for name, values in scored.items()},
            "log_ratio": ratio,
            "tokens": tokens,
        }
        for place, (row, one, (ratio, tokens)) in enumerate(zip(rows, answers, ratios, strict=True))
    ]
    stage.write_rows(examined)
    measures = Measures.of([Look.from_row(row) for row in examined])
    means = {name: fmean(values) for name, values in scored.items()}
    stage.write_json({**measures.to_row(), "rewards": means}, MEASURES)


def log_ratios(
    stage: Stage,
    policy: Model,
    initial: Model,
    prompts: Sequence[Prompt],
    answers: Sequence[StoredCall],
    *,
    placement: Placement,
) -> list[tuple[float, int]]:
    """Return log(policy / initial) of each answer, in nats, with its tokens; exactly zero for the initial policy.

    Their sum over the sum of the tokens estimates the divergence KL(policy || initial) a token without bias, if the
    answers are samples of the policy at temperature 1; a single answer's may be below zero. An answer's text is
    tokenised again. The end of turn counts where the policy wrote it, and not behind an answer that was cut.
    """
    from strop.models.local import LocalModel
    from strop.models.scoring import TokenScores, completion_log_probs

    folders = (policy_weights(stage, policy, initial), weights_of(initial))
    scored: dict[Any, list[TokenScores]] = {}
    for folder in dict.fromkeys(folders):
        model = LocalModel(folder, device=placement.device, dtype=placement.dtype)
        try:
            scored[folder] = completion_log_probs(model, prompts, [one.text for one in answers])
        finally:
            model.close()
    found = []
    for answer, ours, theirs in zip(answers, *(scored[folder] for folder in folders), strict=True):
        written = len(ours.tokens) - (answer.finish == CUT)
        found.append((sum(ours.log_probs[:written]) - sum(theirs.log_probs[:written]), written))
    return found


def watch(stage: Stage, now: Artifact, start: Artifact, *, limits: WatchLimits, iteration: int, seed: int) -> None:
    """Compare a round's policy with the initial one: `watch.json`; a broken limit stops the run.

    Raises:
        Stopped: The policy has moved further than a limit allows. All rounds so far are kept.
    """
    import numpy

    looks = [[Look.from_row(row) for row in one.rows()] for one in (now, start)]
    measures = [Measures.of(one).to_row() for one in looks]
    found = watched(looks[0], looks[1], limits, numpy.random.default_rng(derive_seed(seed, "watch")))
    told = {"measures": measures[0], "start": measures[1], "watched": [one.to_row() for one in found]}
    broken = [one for one in found if one.broken]
    if broken:
        stage.note(**told)
        raise Stopped(
            f"over-optimisation after round {iteration}",
            value="; ".join(one.told for one in broken),
            why="the policy pleases its reward model by other means than better answers",
            fix="train less (a lower learning_rate, a larger beta, fewer iterations), use a better reward model, or "
            "set policy.online.limits; to keep the rounds before, set policy.online.iterations to their number",
        )
    stage.write_json(told, WATCH)


def choose_checkpoint(stage: Stage, examined: Mapping[str, Artifact], *, reward: str) -> None:
    """Choose the policy with the highest mean development reward: `chosen.json`; of equal ones the earliest.

    Args:
        stage: Where to write.
        examined: What `examine` found of each policy, by the name of the stage that made it.
        reward: The name of the reward model that decides.
    """
    means = {name: fmean(row["rewards"][reward] for row in one.rows()) for name, one in examined.items()}
    best = max(means, key=lambda name: means[name])
    stage.write_json({"chosen": best, "means": means, "reward": reward}, CHOSEN)
