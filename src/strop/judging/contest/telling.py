"""What a comparison's `results.json` says, as parts of a report: numbers, verdicts, figures, the judge's table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from strop.records.document import Bar, Bars, Estimate, Figure, Number, Reference, Table, Verdict

Row = Mapping[str, Any]
RESULTS = "results.json"
COIN = Reference("no difference", 0.5)


def _estimate(row: Row | None) -> Estimate:
    if row is None or "estimate" not in row:
        return Estimate(None)
    return Estimate(row["estimate"], row["low"], row["high"], row["n"])


def win_rate_numbers(told: Row, artifact: str, *, prefix: str = "", headline: bool = True) -> Iterator[Number]:
    """Yield the win rates and the judge's figures, each with its origin.

    Args:
        told: The content of `results.json`.
        artifact: Name of the stage's artifact that holds it.
        prefix: In front of each number's name, where a report tells several comparisons.
        headline: Whether the win rates and the flips stand at the top of the page.
    """

    def number(name: str, row: Row | None, label: str, *, top: bool = False) -> Number:
        value = _estimate(row)
        note = row["reason"] if row is not None and "reason" in row else ""
        ends = (value.low, value.high, value.n)
        return Number(prefix + name, value.value, artifact, RESULTS, *ends, label=label, note=note, headline=top)

    rate: Row = told["win_rate"] or {"raw": None, "length_controlled": None}
    yield number("win_rate.raw", rate["raw"], "win rate of the first, ties half", top=headline)
    yield number("win_rate.length_controlled", rate["length_controlled"], "win rate at equal length", top=headline)
    summary: Row = told["summary"]
    yield number("judge.flips", summary["flips"], "verdicts that change with the order", top=headline)
    yield number("judge.failures", summary["failures"], "replies without a verdict")
    yield number("judge.shown_first", summary["shown_first"], "verdicts for the side shown first")
    for criterion in told["criteria"]:
        yield number(f"win_rate.{criterion['key']}", criterion["win_rate"], f"by {criterion['key']}")


def win_rate_verdicts(told: Row, first: str, second: str) -> Iterator[Verdict]:
    """Yield who is preferred, raw and at equal length, in plain words."""
    if told["win_rate"] is None:
        yield Verdict("The judge gave no verdict at all: nothing can be said.", "bad")
        return
    raw, controlled = told["win_rate"]["raw"], told["win_rate"]["length_controlled"]
    yield Verdict(*_compared(first, second, raw, "", told["needed"]))
    if "reason" in controlled:
        yield Verdict(f"No rate at equal length: {controlled['reason']}.", "plain")
    else:
        yield Verdict(*_compared(first, second, controlled, "At equal length, ", None))
    sign = told["sign"]
    counted = f"{sign['wins']} wins, {sign['losses']} losses and {sign['ties']} ties"
    yield Verdict(f"{counted}; exact sign test p = {sign['p_value']:.3g}.")


def _compared(first: str, second: str, rate: Row, lead: str, needed: int | None) -> tuple[str, Any]:
    share = f"{rate['estimate']:.1%} ({rate['low']:.1%} to {rate['high']:.1%}, n={rate['n']})"
    if rate["low"] > 0.5:
        return f"{lead}{first} is preferred to {second}: {share}.", "good"
    if rate["high"] < 0.5:
        return f"{lead}{second} is preferred to {first}: {first} wins {share}.", "bad"
    more = f" About {needed:,} comparisons would tell, were this the true rate." if needed else ""
    return f"{lead}{first} and {second} are not distinguishable: {first} wins {share}.{more}", "unclear"


def win_rate_figures(told: Row, title: str = "How often the first is preferred") -> Iterator[Figure]:
    """Yield the win rates as bars, overall and by criterion."""
    if told["win_rate"] is None:
        return
    rate = told["win_rate"]
    bars = [Bar("all criteria", _estimate(rate["raw"]), emphasis=True)]
    if "estimate" in rate["length_controlled"]:
        bars.append(Bar("at equal length", _estimate(rate["length_controlled"])))
    bars += [Bar(one["key"], _estimate(one["win_rate"])) for one in told["criteria"] if one["win_rate"]]
    yield Bars(
        title,
        "Ties count half; intervals resample groups of prompts.",
        "win rate of the first",
        tuple(bars),
        (COIN,),
    )


def judge_table(summary: Row) -> Table:
    """Return how steady and how readable the judge was."""
    return Table(
        "The judge",
        ("figure", "value"),
        (
            ("verdicts that change with the order (ties)", _estimate(summary["flips"])),
            ("verdicts for the side shown first", _estimate(summary["shown_first"])),
            ("replies without a verdict", _estimate(summary["failures"])),
            ("comparisons without a verdict", summary["failed"]),
        ),
        ("A comparison without a verdict counts for nobody: it is missing, not a tie.",),
    )


def win_rate_warnings(told: Row) -> Iterator[str]:
    """Yield what a reader must know before quoting the rates."""
    if told["win_rate"] is not None and told["win_rate"]["one_sided"]:
        yield "One contestant's answers are never the shorter ones: the rate at equal length is an extrapolation."
    failed = told["summary"]["failed"]
    if failed:
        yield f"{failed} comparisons have no verdict; were all of them losses or wins, the rate would move accordingly."
