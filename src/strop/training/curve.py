"""What the curve of a finished training says, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from strop.training.job import Finding

Curve = Sequence[Mapping[str, float]]

WINDOW = 0.2
"""Share of the steps, at either end, that is averaged."""
COLLAPSE_PER_TOKEN = -1.0
"""Nats per token by which the chosen responses may become less likely before the model counts as collapsed."""
CAUSES = (
    "the usual causes: a learning rate too high or a beta too low; pairs that differ in a few tokens only; "
    "no likelihood term (sft_weight, or ORPO)"
)


def _ends(curve: Curve, key: str) -> tuple[float, float]:
    """Return the mean of `key` over the first and over the last steps."""
    values = [entry[key] for entry in curve]
    count = max(1, round(len(values) * WINDOW))
    return fmean(values[:count]), fmean(values[-count:])


def sft_verdict(curve: Curve) -> Finding:
    """Say whether the training loss fell."""
    first, last = _ends(curve, "loss")
    fell = last < first
    return Finding(
        name="training loss",
        status="ok" if fell or len(curve) == 1 else "warn",
        value=f"{first:.4f} -> {last:.4f} in {len(curve)} steps",
        why="a loss that does not fall means that nothing was learned, or that the model knew it already",
        fix="" if fell else "raise the learning rate or train longer; look at the mask preview of strop doctor",
    )


def preference_verdict(curve: Curve, *, beta: float, response_tokens: float) -> Finding:
    """Say whether a DPO curve is healthy, both likelihoods fall, or the model collapsed.

    DPO only fixes the difference of the two log-ratios: it is also satisfied when both responses become less likely, as
    long as the rejected one falls faster (Razin et al., 2024, arXiv 2410.08847). Some fall is common; a fall of the
    chosen response by whole nats per token is the end of a language model.

    Args:
        curve: What TRL logged: ``rewards/chosen`` and ``rewards/rejected`` are beta times the log-ratios.
        beta: DPO's beta.
        response_tokens: Mean length of the chosen responses.
    """
    chosen, rejected = (_ends(curve, f"rewards/{side}")[1] / beta for side in ("chosen", "rejected"))
    accuracy = _ends(curve, "rewards/accuracies")[1]
    verdict, status, fix = "healthy: the chosen responses became no less likely", "ok", ""
    if chosen / response_tokens < COLLAPSE_PER_TOKEN:
        verdict, status, fix = "collapse: the chosen responses became very unlikely", "warn", CAUSES
    elif chosen <= rejected:
        verdict, status, fix = "no preference was learned", "warn", "raise the learning rate or train longer"
    elif chosen < 0:
        verdict, status, fix = "both fall: chosen and rejected responses became less likely", "warn", CAUSES
    return Finding.model_validate(
        {
            "name": "preference curve",
            "status": status,
            "value": f"{verdict}; log-ratio chosen {chosen:+.2f}, rejected {rejected:+.2f}, margin "
            f"{chosen - rejected:+.2f} nats, {accuracy:.0%} of pairs ordered as wanted (last steps)",
            "why": "the loss alone does not tell a better model from one that made both responses unlikely",
            "fix": fix,
        }
    )


def odds_verdict(curve: Curve) -> Finding:
    """Say whether an ORPO training learned to prefer the chosen responses."""
    first, last = _ends(curve, "rewards/accuracies")
    learned = last > 0.5
    return Finding(
        name="preference curve",
        status="ok" if learned else "warn",
        value=f"{first:.0%} -> {last:.0%} of pairs with the chosen response more likely per token",
        why="ORPO's likelihood term lowers the loss by itself, without any preference learned",
        fix="" if learned else "raise beta or the learning rate, or train longer",
    )
