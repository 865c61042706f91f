"""What a report says, as frozen records: the schema of `report.json`.

Every record checks itself when it is made: unknown fields, infinities and NaN are refused, so that a missing number is
None (shown as a dash) and never a zero. Text may come from a model: what cannot be written or shown is replaced, and
the page escapes the rest.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

Unit = Literal["share", "ratio", "points", "count", "seconds", "tokens"]
"""How a number is shown: a share as per cent, a ratio to two digits, points with a sign, the others as amounts."""

_RECORD = ConfigDict(extra="forbid", allow_inf_nan=False)
# Control characters, both overrides of the writing direction, and halves of surrogate pairs, which UTF-8 cannot hold.
_UNSHOWABLE = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127, 0x202D, 0x202E, *range(0xD800, 0xE000)), "\ufffd")


def showable(value: Any) -> Any:
    """Return text with what cannot be written or shown replaced; anything else as it is."""
    return value.translate(_UNSHOWABLE) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(showable)]


@dataclass(frozen=True, config=_RECORD)
class Estimate:
    """A value with its interval.

    Attributes:
        value: The point estimate; None where nothing could be measured.
        low: Lower end of the interval, or None where none was computed.
        high: Upper end.
        n: What the estimate rests on: questions, pairs or seeds.
        unit: How to show it.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    unit: Unit = "share"


@dataclass(frozen=True, config=_RECORD)
class Number:
    """A reported number and what it was computed from; `strop trace RUN NAME` starts here.

    Attributes:
        name: Unique in its report, as ``gap_recovered.stage_2``.
        value: The number; None where it could not be measured, with the reason in `note`.
        artifact: Name of the stage's artifact that it was computed from.
        file: File inside that artifact.
        label: What a person reads; the name where empty.
        note: How the interval was made, or why the value is missing.
        headline: Whether it stands at the top of the page.
    """

    name: str
    value: float | None
    artifact: str
    file: str
    low: float | None = None
    high: float | None = None
    n: int | None = None
    unit: Unit = "share"
    label: str = ""
    note: Text = ""
    headline: bool = False

    @property
    def estimate(self) -> Estimate:
        """The number without its origin."""
        return Estimate(self.value, self.low, self.high, self.n, self.unit)


Cell = Estimate | int | float | Text | None


@dataclass(frozen=True, config=_RECORD)
class Table:
    """A table: a title, its columns, its rows, and the notes below it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[Text, ...] = ()
    emphasised_rows: tuple[int, ...] = ()


@dataclass(frozen=True, config=_RECORD)
class Reference:
    """A level that the values of a figure are compared with, as the weak floor; drawn as a dashed line."""

    name: str
    value: float


@dataclass(frozen=True, config=_RECORD)
class Line:
    """One thin line of a curve, as one seed; None where a point is missing, which leaves a gap."""

    name: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, config=_RECORD)
class Curve:
    """A value along the steps of the method: one line per seed, their mean, and its interval as a band.

    Attributes:
        points: Names along the horizontal axis, in order.
        lines: One per seed; as many values as points.
        mean: One estimate per point.
        references: Levels to compare with.
    """

    title: str
    caption: str
    points: tuple[str, ...]
    value_label: str
    lines: tuple[Line, ...]
    mean: tuple[Estimate, ...]
    references: tuple[Reference, ...] = ()
    kind: Literal["curve"] = "curve"


@dataclass(frozen=True, config=_RECORD)
class Bar:
    """One arm of a comparison; `emphasis` marks the method's own result among the baselines."""

    name: str
    estimate: Estimate
    emphasis: bool = False


@dataclass(frozen=True, config=_RECORD)
class Bars:
    """Arms side by side with their intervals, and the levels that they are measured against."""

    title: str
    caption: str
    value_label: str
    bars: tuple[Bar, ...]
    references: tuple[Reference, ...] = ()
    kind: Literal["bars_with_intervals"] = "bars_with_intervals"


@dataclass(frozen=True, config=_RECORD)
class SelectionRound:
    """What one round of selection kept.

    Attributes:
        name: The round, as ``iteration 1``.
        kept: Rows kept.
        total: Rows offered.
        precision: Share of the kept labels that are correct.
        before: The same share among all offered labels.
    """

    name: str
    kept: int
    total: int
    precision: Estimate
    before: Estimate


@dataclass(frozen=True, config=_RECORD)
class Selection:
    """How precise the selected labels are, round by round, beside the labels that were offered."""

    title: str
    caption: str
    rounds: tuple[SelectionRound, ...]
    kind: Literal["selection"] = "selection"


@dataclass(frozen=True, config=_RECORD)
class HeatMap:
    """A value for each pair of a row and a column, as the use of each head in each layer; darker is more.

    Attributes:
        rows: Names, the first on top.
        columns: Names, the first on the left.
        values: A tuple for each row, a value for each column; None where there is none, which stays empty.
        value_label: What the values are.
        unit: How to show them.
    """

    title: str
    caption: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    value_label: str
    unit: Unit = "share"
    kind: Literal["heat_map"] = "heat_map"

    def __post_init__(self) -> None:
        if len(self.values) != len(self.rows) or any(len(row) != len(self.columns) for row in self.values):
            raise ValueError("a heat map has a value, or None, for each of its rows and columns")


Figure = Annotated[Curve | Bars | Selection | HeatMap, Field(discriminator="kind")]


@dataclass(frozen=True, config=_RECORD)
class Answer:
    """One answer of a sample; `correct` is None where no gold answer exists or grading it failed."""

    label: str
    text: Text
    correct: bool | None = None


@dataclass(frozen=True, config=_RECORD)
class Sample:
    """A question with its answers side by side, and what the method did with it."""

    prompt: Text
    answers: tuple[Answer, ...]
    outcome: Literal["kept", "dropped"]
    reason: Text = ""
    identifier: str = ""


@dataclass(frozen=True, config=_RECORD)
class SampleGroup:
    """Samples that show one decision of the method."""

    title: str
    note: Text
    samples: tuple[Sample, ...]


@dataclass(frozen=True, config=_RECORD)
class Verdict:
    """One paragraph of the conclusion in plain words; the tone colours its edge."""

    text: Text
    tone: Literal["plain", "good", "bad", "unclear"] = "plain"


@dataclass(frozen=True, config=_RECORD)
class StageFact:
    """What one stage of the run cost; calls that the store answered are `reused`."""

    name: str
    seconds: float
    calls: int = 0
    reused: int = 0
    tokens: int = 0


@dataclass(frozen=True, config=_RECORD)
class Fact:
    """A line of the provenance, as the version of a package or the hash of a data file."""

    name: str
    value: Text


@dataclass(frozen=True, config=_RECORD)
class Product:
    """Something that a run leaves for use elsewhere; `strop export` takes it out of the run folder.

    Attributes:
        name: What to call it; unique in its report, and made of a-z, 0-9, ``_``, ``.`` and ``-``.
        kind: A causal language model, a reward model, preference pairs, or examples for supervised fine-tuning.
        artifact: Name of the stage's artifact that holds it.
        path: The folder or file inside that artifact; all of it where empty.
        base: The model that it was trained from; empty where it was not trained.
        final: Whether it is what the run was for: these are exported unless others are named.
        note: What a person should know about it, in one line.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    kind: Literal["model", "reward_model", "pairs", "examples"]
    artifact: str
    path: str = ""
    base: Text = ""
    final: bool = False
    note: Text = ""

    @property
    def is_data(self) -> bool:
        """Whether it is rows and no model."""
        return self.kind in ("pairs", "examples")


@dataclass(frozen=True, config=_RECORD)
class Document:
    """Everything that a report says.

    Attributes:
        title: What was run and on what.
        method: The method's name, shown above the title.
        command: The command that makes these numbers again.
        verdicts: The conclusion in plain words, the most important first.
        numbers: Every reported number with its origin; names are unique.
        warnings: What a reader must know before quoting a number.
        stages: What each stage cost.
        machine: Machine and versions.
        provenance: Config, data and code hashes, seeds.
        products: What the run made; names are unique.
        intended_use: What the products are for and what not, a paragraph each; the cards say it.
    """

    title: str
    method: str
    command: str
    verdicts: tuple[Verdict, ...]
    numbers: tuple[Number, ...]
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    samples: tuple[SampleGroup, ...] = ()
    warnings: tuple[Text, ...] = ()
    stages: tuple[StageFact, ...] = ()
    machine: tuple[Fact, ...] = ()
    provenance: tuple[Fact, ...] = ()
    products: tuple[Product, ...] = ()
    intended_use: tuple[Text, ...] = ()
    schema_version: Literal[1] = 1

    def __post_init__(self) -> None:
        for what, names in (
            ("number", [number.name for number in self.numbers]),
            ("product", [product.name for product in self.products]),
        ):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(f"{what} names must be unique, these repeat: {', '.join(repeated)}")
