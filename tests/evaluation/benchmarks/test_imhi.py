"""CAMS, Dreaddit and IRF: queries and gold labels of both formats, and replies. All posts here are ours."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.evaluation.benchmarks.imhi import read_gold, read_query, read_reply
from strop.evaluation.benchmarks.items import CAUSES, YES_NO, Family
from strop.evaluation.benchmarks.readers import TaskSettings, read_task

QUERIES: list[tuple[str, Family, str]] = [
    ('Consider this post: "I am tired. Question: why?" Question: Does the poster suffer from stress?', "dreaddit", ""),
    (
        'Post: I am tired. Question: The answer to the question "Does the poster suffers from stress?" is ',
        "dreaddit",
        "",
    ),
    ('Consider this post: "All is\nwell." Question: What cause of depression does this post show?', "cams", ""),
    ("Post: All is well. Question: This post shows the mental disorder cause of ", "cams", ""),
    (
        'Consider this post: "So it is." Question: Does the post show risk of thwarted belongingness?',
        "irf",
        "thwarted belongingness",
    ),
    (
        "Post: So it is. Question: The answer to the question: "
        '"Does the post shows risk of perceived burdensomeness?" is ',
        "irf",
        "perceived burdensomeness",
    ),
]


@pytest.mark.parametrize(("text", "family", "part"), QUERIES)
def test_queries_of_both_formats(text: str, family: Family, part: str) -> None:
    query = read_query(text)
    assert query is not None
    assert (query.family, query.part) == (family, part)
    assert query.post in ("I am tired. Question: why?", "I am tired.", "All is\nwell.", "All is well.", "So it is.")


def test_both_formats_ask_the_same_question() -> None:
    questions = [query.question for query in (read_query(text) for text, _, _ in QUERIES) if query is not None]
    assert questions[0] == questions[1]
    assert questions[2] == questions[3]


@pytest.mark.parametrize("text", ["", "no post", 'Consider this post: "x" Question: Is it day?', "Question: stress?"])
def test_other_queries_are_not_read(text: str) -> None:
    assert read_query(text) is None


GOLD: list[tuple[str, Family, str | None]] = [
    ("This post shows no causes of depression. Reasoning: a relationship is named, no more.", "cams", "none"),
    ("none", "cams", "none"),
    ("This post shows causes of depression related to jobs and career. Reasoning: x", "cams", "jobs and career"),
    ("jobs and career", "cams", "jobs and career"),
    ("bias or abuse. Reasoning: medication plays no part.", "cams", "bias or abuse"),
    ("No, the poster does not suffer from stress. Reasoning: yes, there is work.", "dreaddit", "no"),
    (" no. Reasoning: x", "dreaddit", "no"),
    (" yes, the post does show a risk of thwarted belongingness. Reasoning: x", "irf", "yes"),
    ("Reasoning: yes", "irf", None),
    ("", "cams", None),
    ("something else", "cams", None),
]


@pytest.mark.parametrize(("text", "family", "label"), GOLD)
def test_gold_labels_of_both_formats(text: str, family: Family, label: str | None) -> None:
    assert read_gold(text, family) == label


REPLIES: list[tuple[str, Family, str | None]] = [
    ("\n\nNo, the poster does not suffer from stress. Reasoning: The poster is calm.", "dreaddit", "no"),
    ("\n\nYes, the poster suffers from stress. Reasoning: no sleep, not at work.", "dreaddit", "yes"),
    ("No, the poster does not suffer from stress. The poster tells of a walk.", "dreaddit", "no"),
    ("The poster does not suffer from stress.", "dreaddit", "no"),
    ("The poster doesn\u2019t suffer from stress.", "dreaddit", "no"),
    ("Based on the post, the poster is suffering from stress.", "dreaddit", "yes"),
    ("Reasoning: Yes, the post shows risk of perceived burdensomeness. It speaks of debts.", "irf", "yes"),
    ("Reasoning: The given post does not show risk of thwarted belongingness. It is calm.", "irf", "no"),
    ("Reasoning: 1. A move is told. Overall, the post demonstrates a risk of thwarted belongingness.", "irf", "yes"),
    ("**Yes**", "irf", "yes"),
    ("Reasoning: 1. The post mentions work. 2. There is a potential risk of perceived burdensomeness.", "irf", None),
    ("Reasoning: The poster may be suffering from stress, but it is not explicitly stated.", "dreaddit", None),
    ("Reasoning: nothing is known.", "dreaddit", None),
    ("I know that nothing is noted here.", "dreaddit", None),
    ("Yes or no", "dreaddit", None),
    ("", "dreaddit", None),
    ("Reasoning:", "irf", None),
    (
        "This post shows causes of depression related to alienation. Reasoning: a relationship ended.",
        "cams",
        "alienation",
    ),
    ("This post shows no causes of depression.", "cams", "none"),
    ("None", "cams", "none"),
    ("Jobs and careers.", "cams", "jobs and career"),
    (
        "Reasoning: This post shows causes of depression related to medication. It is told at length.",
        "cams",
        "medication",
    ),
    ("The cause is relationship or alienation", "cams", None),
    ("relationship, alienation and none", "cams", None),
    ("The post speaks of medication, a job and a marriage.", "cams", None),
    ("", "cams", None),
]


@pytest.mark.parametrize(("reply", "family", "label"), REPLIES)
def test_replies(reply: str, family: Family, label: str | None) -> None:
    assert read_reply(reply, family) == label


@given(st.text(), st.sampled_from(["cams", "dreaddit", "irf"]))
def test_any_reply_gives_a_label_of_the_task_or_none(reply: str, family: Family) -> None:
    assert read_reply(reply, family) in {*(CAUSES if family == "cams" else YES_NO), None}


@given(st.sampled_from(CAUSES), st.text(alphabet="xyz .\n"))
def test_what_follows_the_reasoning_changes_no_label(cause: str, rest: str) -> None:
    assert read_reply(f"This post shows causes of depression related to {cause}. Reasoning: {rest}", "cams") == cause


LABELS = {
    "CAMS_instruction_dev": ("cams", 73),
    "CAMS_expert": ("cams", 35),
    "dreaddit_instruction_dev": ("dreaddit", 40),
    "dreaddit_expert": ("dreaddit", 35),
    "Irf_instruction_dev": ("irf", 108),
    "Irf_expert": ("irf", 35),
}


@pytest.mark.parametrize("name", LABELS)
def test_every_gold_label_of_the_shared_files_is_known(shared_data: Path, name: str) -> None:
    family, count = LABELS[name]
    read = read_task(name, TaskSettings(file=shared_data / "mental_arena/imhi" / f"{name}.csv", duplicates="keep"))
    assert (read.family, len(read.items)) == (family, count)


def test_real_replies_of_mentallama(shared_data: Path) -> None:
    """35 replies each, read by hand beforehand.

    Of Dreaddit's one begins with its reasoning and commits itself to nothing. Of IRF's 20 begin with it: two state the
    label in its first sentence, one in a later one, 17 weigh and state none; the other 15 begin with the label.
    """
    counts = {}
    families: dict[str, Family] = {"dreaddit": "dreaddit", "Irf": "irf"}
    for name, family in families.items():
        path = shared_data / "mental_arena/imhi" / f"{name}_real_model_outputs.csv"
        with path.open(newline="", encoding="utf-8") as stream:
            replies = [row["generated_text"] for row in csv.DictReader(stream)]
        counts[name] = Counter(read_reply(reply, family) for reply in replies)
    assert counts["dreaddit"] == {"yes": 16, "no": 18, None: 1}
    assert counts["Irf"] == {"yes": 11, "no": 7, None: 17}
