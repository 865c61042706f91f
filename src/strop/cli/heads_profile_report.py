"""What ``strop heads profile`` measured as a page: a figure and a table for each step, the conclusions above them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from strop.records.document import Bar, Bars, Document, Estimate, Fact, Reference, Table, Verdict

if TYPE_CHECKING:
    from strop.heads.profiling import Arm, Measured, Profile

BASES = ("dense", "gated dense")


def profile_document(
    found: Profile, *, titles: dict[str, str], conclusion: Callable[[Measured], str], command: str
) -> Document:
    """Return the page's document.

    Args:
        found: What was measured.
        titles: What each step is, in words.
        conclusion: Of one step at one length, for people; the last line counts.
        command: The command that measures it again.
    """
    steps = list(dict.fromkeys(each.step for each in found.measured))
    return Document(
        title=f"{Path(found.model).name}: {found.share:.1%} of the heads",
        method="mixture-of-head attention, measured",
        command=command,
        verdicts=tuple(Verdict(conclusion(each).splitlines()[-1], tone=_tone(each)) for each in found.measured),
        numbers=(),
        figures=tuple(
            _figure(titles[step], [each for each in found.measured if each.step == step], found) for step in steps
        ),
        tables=tuple(_table(titles[step], [each for each in found.measured if each.step == step]) for step in steps),
        machine=(Fact("torch", found.torch), Fact("device", found.device), Fact("threads", str(found.threads))),
        provenance=(
            Fact("router", found.router),
            Fact("rows", str(found.batch)),
            Fact("rounds", str(found.rounds)),
            Fact("clock", "processor time" if found.clock == "cpu" else "time on the clock"),
        ),
    )


def _tone(measured: Measured) -> Literal["good", "bad", "unclear"]:
    if measured.why_not is not None:
        return "unclear"
    return "good" if any(_gains(arm) for arm in measured.arms) else "bad"


def _gains(arm: Arm) -> bool:
    return arm.name not in BASES and arm.over_dense is not None and arm.over_dense.is_gain


def _figure(title: str, of_step: list[Measured], found: Profile) -> Bars:
    """Ways and the bound, length after length."""
    bars: list[Bar] = []
    for measured in of_step:
        for arm in measured.arms:
            if arm.name != "dense":
                bars.append(Bar(f"{measured.length:,} {arm.name}", _estimate(arm), emphasis=_gains(arm)))
        bars.append(Bar(f"{measured.length:,} at best", Estimate(measured.bound, unit="ratio")))
    return Bars(
        title=title,
        caption="Times faster than the dense model; the line through a bar is the interval of the median over "
        f"{found.rounds} rounds. At best: the ratio that the counted work allows; a kernel that is faster than torch's "
        "with all heads on can pass it. Emphasised: the whole interval lies above 1.",
        value_label="times faster",
        bars=tuple(bars),
        references=(Reference("dense", 1.0),),
    )


def _table(title: str, of_step: list[Measured]) -> Table:
    rows = tuple(
        (
            f"{measured.length:,}",
            arm.name,
            _milliseconds(arm.cpu_s),
            _milliseconds(arm.wall_s),
            _estimate(arm),
            arm.why_not or "",
        )
        for measured in of_step
        for arm in measured.arms
    )
    return Table(title, ("tokens", "way", "processor time, ms", "on the clock, ms", "times faster", ""), rows)


def _estimate(arm: Arm) -> Estimate:
    ratio = arm.over_dense
    if ratio is None:
        return Estimate(None, unit="ratio")
    return Estimate(ratio.median, ratio.low, ratio.high, ratio.rounds, unit="ratio")


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1e3 * seconds, 2)
