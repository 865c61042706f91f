"""Rules of the filters by hand, on hostile text, and on the released files where they are at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.evaluation.surface import words_of
from strop.methods.selfplay.cleaning import (
    PARTS,
    PUBLISHED,
    STRICT,
    Outcome,
    broken_rules,
    clean,
    folded_name,
    kept_parts,
)
from strop.methods.selfplay.cleaning_files import clean_file, rule_table, share_table
from strop.records.tables import write_table

GOOD = Outcome(
    illness="Social Anxiety Disorder",
    treatment="Cognitive Behavioral Therapy (CBT)",
    explain_t="It weakens the thought that everybody watches.",
    medicine="Sertraline (Zoloft)",
    explain_m="It raises serotonin.",
)


def broken(**fields: str) -> set[tuple[str, str]]:
    return {(rule.part, rule.name) for rule in broken_rules(replace(GOOD, **fields), STRICT)}


def test_a_sound_outcome_breaks_nothing() -> None:
    assert broken() == set()
    assert kept_parts(()) == PARTS


@pytest.mark.parametrize(
    "illness",
    [
        "Major Depressive Disorder (MDD).",
        "Adjustment disorder with mixed anxiety and depressed mood",
        "Mixed anxiety and depressive disorder",
        "Depression with anxiety",
        "Prolonged Grief Disorder",
        "Insomnia",
        "Bulimia Nervosa",
        "Alcohol Use Disorder",
        "PTSD",
        "Agoraphobia",
    ],
)
def test_an_illness_passes(illness: str) -> None:
    assert broken(illness=illness) == set()


@pytest.mark.parametrize(
    ("illness", "rule"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        (":**", "residue"),
        ("**PTSD**", "residue"),
        ("...", "residue"),
        ("Doctor 2's diagnosis of PTSD is more accurate.", "names a doctor"),
        ("doctor #1", "names a doctor"),
        ("Dr. Two", "names a doctor"),
        ("Both diagnoses are accurate.", "names several"),
        ("A combination of depression and anxiety", "names several"),
        ("Anxiety or depression.", "names several"),
        ("I'm sorry, I cannot answer that question.", "says nothing"),
        ("Not specified", "says nothing"),
        ("N/A", "says nothing"),
        ("None", "says nothing"),
        ("It is impossible to determine", "says nothing"),
        ("Depression diagnosis is more accurate.", "speaks of diagnoses"),
        ("PTSD rather than depression", "denies an illness"),
        ("Low self-esteem.", "names no illness"),
        ("Answer.", "names no illness"),
        ("Depression " + "with a long story " * 5, "too long"),
    ],
)
def test_what_is_no_diagnosis(illness: str, rule: str) -> None:
    assert ("diagnosis", rule) in broken(illness=illness)
    assert "diagnosis" not in kept_parts(broken_rules(replace(GOOD, illness=illness), STRICT))


@pytest.mark.parametrize(
    ("plan", "rule"),
    [
        ("", "empty"),
        (":**", "residue"),
        (":** Lurasidone (Latuda)", "residue"),
        ("Explanation: No specific medicine is mentioned.", "label inside"),
        ("No specific medicine", "says nothing"),
        ("None needed", "says nothing"),
        ("Not applicable", "says nothing"),
        ("social anxiety disorder.", "is the illness"),
        ("Social Anxiety Disorder (SAD)", "is the illness"),
        ("Major Depressive Disorder (MDD)", "is an illness"),
        ("word " * 31, "too long"),
    ],
)
def test_what_is_no_plan(plan: str, rule: str) -> None:
    """The same rules hold for both kinds of plan, and each removes its own part only."""
    for part, field in (("treatment", "treatment"), ("medication", "medicine")):
        found = broken_rules(replace(GOOD, **{field: plan}), STRICT)
        assert (part, rule) in {(one.part, one.name) for one in found}
        assert set(kept_parts(found)) == set(PARTS) - {part}


@pytest.mark.parametrize("plan", ["Exposure therapy for panic disorder", "Trauma-focused therapy", "Sleep hygiene"])
def test_a_plan_may_name_what_it_is_for(plan: str) -> None:
    assert broken(treatment=plan) == set()


def test_explanations() -> None:
    assert broken(explain_t=" ") == {("treatment", "no explanation")}
    assert broken(explain_m=":** It helps") == {("medication", "residue in the explanation")}
    assert broken(explain_m="It is **well** tolerated") == set()
    assert broken(explain_t="so " * 251) == {("treatment", "explanation too long")}


def test_published_rule_by_hand() -> None:
    """The released code sees medicines alone, and misses *No specific medicine*; *Nothing* holds *Not*."""
    rows = [replace(GOOD, medicine=text) for text in ("", "None", "N/A", "Nothing", "Explanation: x", "none", "Zoloft")]
    rows.append(replace(GOOD, illness="Doctor 1", treatment="", medicine="No specific medicine"))
    cleaned = clean(rows, PUBLISHED)
    assert cleaned.kept == {"diagnosis": 8, "treatment": 8, "medication": 3}
    assert cleaned.pairs == 19


def test_counts_add_up_by_hand() -> None:
    """Three outcomes: sound; a doctor and no illness; a medicine that is residue twice over."""
    rows = [GOOD, replace(GOOD, illness="Doctor 2."), replace(GOOD, medicine=":**", explain_m=":**")]
    cleaned = clean(rows)
    assert cleaned.kept == {"diagnosis": 2, "treatment": 3, "medication": 2}
    assert cleaned.found["diagnosis", "names a doctor"] == cleaned.removed["diagnosis", "names a doctor"] == 1
    assert cleaned.found["diagnosis", "names no illness"] == 1
    assert cleaned.removed["diagnosis", "names no illness"] == 0
    assert cleaned.removed["medication", "residue in the explanation"] == 0
    assert cleaned.parts == (PARTS, ("treatment", "medication"), ("diagnosis", "treatment"))


TEXTS = st.text(st.sampled_from("ab 1.:*\nDOCTORdoctrndisorbh"), max_size=60) | st.text(max_size=60)


@given(st.lists(st.builds(Outcome, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS), max_size=5))
def test_any_outcomes_are_counted_once(rows: list[Outcome]) -> None:
    """Kept and first-removed add up for each part, no rule removes more than it finds, and nothing wordless is kept."""
    for rules in (STRICT, PUBLISHED):
        cleaned = clean(rows, rules)
        for part in PARTS:
            assert cleaned.kept[part] + sum(n for (own, _), n in cleaned.removed.items() if own == part) == len(rows)
        assert all(cleaned.removed[key] <= found for key, found in cleaned.found.items())
    for row, parts in zip(rows, clean(rows).parts, strict=True):
        assert "diagnosis" not in parts or words_of(row.illness)
        assert "treatment" not in parts or (words_of(row.treatment) and words_of(row.explain_t))


def test_long_text_is_judged_in_no_time() -> None:
    """Patterns with nested repetition would not end on these."""
    for text in ("a" * 50_000, "disorder and " * 5_000, "not " * 20_000, "( " * 20_000, "**" * 20_000):
        clean([Outcome(text, text, text, text, text)])


def test_folded_names() -> None:
    assert folded_name(" Major Depressive Disorder (MDD).") == "major depressive disorder"
    assert folded_name("PTSD") == "ptsd"


@pytest.mark.parametrize("row", [{"illness": "x"}, {**dict.fromkeys(Outcome.__slots__, "x"), "medicine": None}])
def test_a_row_that_is_no_session(row: dict[str, Any], tmp_path: Path) -> None:
    write_table(tmp_path / "rows.jsonl", [dict.fromkeys(Outcome.__slots__, "x"), row])
    with pytest.raises(UserError, match=r"rows\.jsonl, row 2: a session's outcome needs the text"):
        clean_file(tmp_path / "rows.jsonl")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="no session"):
        clean_file(tmp_path / "rows.jsonl")


RELEASED = {
    "gpt_iter1_6": ((106, 56, 105, 104), 317, 19, 0, 58),
    "gpt_iter4_2": ((106, 3, 93, 95), 315, 101, 0, 38),
    "llama2_iter0_1": ((107, 79, 101, 99), 319, 7, 6, 58),
    "llama3_iter3_2": ((106, 74, 101, 101), 318, 5, 5, 71),
}
"""Rows and parts left by the strict filter; pairs by the published one; doctors, doctors alone, different illnesses."""


@pytest.mark.parametrize("name", RELEASED)
def test_released_files(name: str, shared_data: Path) -> None:
    """Counted by hand over the sorted illness fields: every *Doctor 1* and *Doctor 2*, and those beside no illness."""
    path = shared_data / "mental_arena" / "selfplay_outputs" / f"{name}_nosymptom.jsonl"
    strict, published = clean_file(path), clean_file(path, "published")
    kept, pairs, doctors, alone, different = RELEASED[name]
    assert (strict.cleaned.rows, *strict.cleaned.kept.values()) == kept
    assert published.cleaned.pairs == pairs
    assert strict.doctor.estimate == doctors / kept[0]
    assert strict.doctor_alone.estimate == alone / kept[0]
    assert strict.illnesses == different
    assert strict.doctor.low < doctors / kept[0] < strict.doctor.high
    assert len(share_table([strict, published])) == 2
    assert sum(row["removed"] for row in rule_table([strict])) == 3 * kept[0] - strict.cleaned.pairs
