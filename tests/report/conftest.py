"""A made-up report in which every kind of record occurs; the numbers are invented and mean nothing."""

from __future__ import annotations

import pytest

from strop.report import (
    Answer,
    Bar,
    Bars,
    Curve,
    Document,
    Estimate,
    Fact,
    Line,
    Number,
    Reference,
    Sample,
    SampleGroup,
    Selection,
    SelectionRound,
    StageFact,
    Table,
    Verdict,
)

HOSTILE = "<script>alert(1)</script> & $x_1$ \u202e\x00 \ud800"
ARMS = (
    ("shuffled labels", 0.067, 0.055, 0.081),
    ("weak floor", 0.452, 0.424, 0.480),
    ("weak in context", 0.582, 0.554, 0.610),
    ("naive fine-tuning", 0.587, 0.559, 0.614),
    ("Stage I, hybrid", 0.660, 0.633, 0.686),
    ("Stage II, DPO", 0.694, 0.668, 0.720),
    ("strong ceiling", 0.832, 0.810, 0.852),
)


@pytest.fixture(scope="session")
def document() -> Document:
    """A document in which every kind of record occurs, with hostile text where models speak."""
    return make_document()


def make_document() -> Document:
    return Document(
        title="A strong model learns three-step stories from a weak one",
        method="weak-to-strong reasoning",
        command="strop run weak_to_strong/cpu --name stories --set seeds=5",
        verdicts=(
            Verdict(
                "The strong model recovers 64 % of the gap to its own ceiling (interval 57 to 70 %, 1,200 unseen "
                "questions, 5 seeds) although it never saw a correct label.",
                "good",
            ),
            Verdict(
                "Stage II is not distinguishable from Stage I at this n; 4,100 questions would be needed.", "unclear"
            ),
        ),
        numbers=_numbers(),
        figures=(_curve(), _bars(), _selection()),
        tables=(_table(),),
        samples=(_samples(),),
        warnings=("Two of 1,200 answers could not be graded in time; they count as not graded, not as wrong.",),
        stages=(
            StageFact("01-weak-answers", 41.2, calls=2000, reused=0, tokens=61_000),
            StageFact("02-strong-answers", 187.0, calls=2000, reused=730, tokens=240_000),
            StageFact("03-select-agreeing", 0.8),
            StageFact("04-train-stage-1", 66.4),
        ),
        machine=(Fact("processor", "2 cores"), Fact("torch", "2.13.0"), Fact("strop", "0.1.0")),
        provenance=(Fact("config", "sha256:5f2c"), Fact("seeds", "11, 12, 13, 14, 15")),
    )


def _numbers() -> tuple[Number, ...]:
    how = "bootstrap over questions and seeds, 10,000 draws"
    headline = (
        ("gap_recovered.stage_2", "gap recovered", 0.64, 0.57, 0.70),
        ("gap_recovered.stage_1", "gap recovered, Stage I", 0.55, 0.47, 0.61),
    )
    shares = (
        ("precision.hybrid", "correct among selected labels", 0.793, 0.762, 0.821),
        ("accuracy.stage_2", "accuracy of the final model", 0.694, 0.668, 0.720),
        ("accuracy.weak", "accuracy of its weak teacher", 0.452, 0.424, 0.480),
    )
    return (
        *(
            Number(name, value, "12-evaluate", "gap.json", low, high, 1200, "ratio", label, how, headline=True)
            for name, label, value, low, high in headline
        ),
        *(
            Number(name, value, "12-evaluate", "graded.jsonl", low, high, 1200, "share", label, how, headline=True)
            for name, label, value, low, high in shares
        ),
        Number("accuracy.lenient", None, "12-evaluate", "graded.jsonl", note="no answer stated a number"),
    )


def _curve() -> Curve:
    names = ("weak floor", "naive", "Stage I", "Stage II")
    seeds = ((0.45, 0.58, 0.66, 0.70), (0.47, 0.61, 0.69, 0.71), (0.43, 0.55, 0.62, 0.66), (0.46, None, 0.67, 0.70))
    means = ((0.452, 0.43, 0.47), (0.587, 0.56, 0.61), (0.660, 0.63, 0.69), (0.694, 0.67, 0.72))
    return Curve(
        title="Accuracy, step by step",
        caption="Thin: one seed each. Thick: their mean; the band is its 95 % interval.",
        points=names,
        value_label="unseen questions answered correctly",
        lines=tuple(Line(f"seed {number}", values) for number, values in enumerate(seeds)),
        mean=tuple(Estimate(value, low, high, 1200) for value, low, high in means),
        references=(Reference("weak floor", 0.452), Reference("strong ceiling", 0.832)),
    )


def _bars() -> Bars:
    return Bars(
        title="The arms side by side",
        caption="Means over seeds with 95 % intervals; nothing between the dashed lines saw a correct label.",
        value_label="unseen questions answered correctly",
        bars=(
            *(Bar(name, Estimate(value, low, high, 1200), name.startswith("Stage")) for name, value, low, high in ARMS),
            Bar("self-labels", Estimate(None)),
        ),
        references=(Reference("weak floor", 0.452), Reference("strong ceiling", 0.832)),
    )


def _selection() -> Selection:
    return Selection(
        title="Agreement picks the correct labels",
        caption="A label is selected where both models give the same answer; gold serves this figure only.",
        rounds=(
            SelectionRound("iteration 1", 730, 2000, Estimate(0.793, 0.762, 0.821), Estimate(0.435, 0.413, 0.457)),
            SelectionRound("iteration 2", 1104, 2000, Estimate(0.842, 0.819, 0.862), Estimate(0.612, 0.590, 0.633)),
        ),
    )


def _table() -> Table:
    return Table(
        title="Every arm",
        columns=("arm", "accuracy", "gap recovered", "training rows", "against the weak floor"),
        rows=tuple(
            (name, Estimate(value, low, high, 1200), Estimate((value - 0.452) / 0.38, unit="ratio"), rows, "p < .001")
            for (name, value, low, high), rows in zip(ARMS, (2000, None, None, 2000, 730, 412, 2000), strict=True)
        ),
        notes=("Interval: 95 %, bootstrap over questions and seeds. n = 1,200 questions, 5 seeds.",),
        emphasised_rows=(4, 5),
    )


def _samples() -> SampleGroup:
    solution = "Ana starts with 12.\n12 + 7 = 19\n19 - 4 = 15\n15 + 21 = 36\n#### 36"
    other = "Ana starts with 12.\n12 + 7 = 19\n19 + 4 = 23\n#### 23"
    prompt = "Ana has 12 marbles. She finds 7, gives 4 away and buys 21. How many marbles has Ana now?"
    return SampleGroup(
        title="What was kept, what was dropped",
        note="The first three of each, in the order of the file.",
        samples=(
            Sample(
                prompt, (Answer("weak", solution, True), Answer("strong", solution, True)), "kept", "both say 36", "17"
            ),
            Sample(
                prompt,
                (Answer("weak", other, False), Answer("strong", solution, True)),
                "dropped",
                "23 against 36",
                "18",
            ),
            Sample(HOSTILE, (Answer("weak", HOSTILE), Answer("strong", HOSTILE)), "dropped", HOSTILE, "19"),
        ),
    )
