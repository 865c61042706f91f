"""Plain-words verdicts on curves made by hand."""

from __future__ import annotations

import pytest

from strop.training.curve import odds_verdict, preference_verdict, sft_verdict


def curve(chosen: float, rejected: float, accuracy: float = 1.0) -> list[dict[str, float]]:
    """Ten steps from zero to the given rewards (beta times log-ratio), which hold for the last fifth."""
    start = {"rewards/chosen": 0.0, "rewards/rejected": 0.0, "rewards/accuracies": 0.5}
    end = {"rewards/chosen": chosen, "rewards/rejected": rejected, "rewards/accuracies": accuracy}
    return [start] * 8 + [end] * 2


@pytest.mark.parametrize(
    ("chosen", "rejected", "words", "status"),
    [
        (0.3, -0.5, "healthy", "ok"),
        (-0.2, -1.0, "both fall", "warn"),
        (-1.0, -1.0, "no preference was learned", "warn"),
        (-2.5, -9.0, "collapse", "warn"),
    ],
)
def test_preference_verdicts(chosen: float, rejected: float, words: str, status: str) -> None:
    """Beta 0.1, 20 tokens: a reward of -2.5 is -25 nats, -1.25 a token, past the collapse bound of -1."""
    finding = preference_verdict(curve(chosen, rejected), beta=0.1, response_tokens=20)
    assert words in finding.value
    assert finding.status == status
    assert (finding.fix == "") == (status == "ok")


def test_preference_verdict_tells_log_ratios_in_nats() -> None:
    finding = preference_verdict(curve(0.3, -0.5, accuracy=0.75), beta=0.1, response_tokens=20)
    assert "chosen +3.00, rejected -5.00, margin +8.00 nats, 75% of pairs" in finding.value


@pytest.mark.parametrize(("last", "status"), [(1.0, "ok"), (3.0, "warn")])
def test_sft_verdict(last: float, status: str) -> None:
    assert sft_verdict([{"loss": 2.0}] * 4 + [{"loss": last}]).status == status


def test_a_single_step_is_no_failure_to_learn() -> None:
    assert sft_verdict([{"loss": 2.0}]).status == "ok"


@pytest.mark.parametrize(("last", "status"), [(0.9, "ok"), (0.4, "warn")])
def test_odds_verdict(last: float, status: str) -> None:
    assert odds_verdict(curve(0.0, 0.0, accuracy=last)).status == status
