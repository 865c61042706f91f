"""``strop benchmark``: files in, scores and predictions out, models compared, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from strop.cli.main import run
from strop.records.tables import read_table, write_table

ROWS = [
    {"id": number, "question": f"Which is number {number}?", "options": ["one", "two"], "answer": "AABAB"[number]}
    for number in range(5)
]
POST = "the post of nobody at all"
QUERY = f'Consider this post: "{POST}" Question: Does the poster suffer from stress?'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table, two scripted models and a workspace."""
    monkeypatch.setenv("STROP_WORKSPACE", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "made.jsonl", ROWS)
    (tmp_path / "always.yaml").write_text("default: A\n", encoding="utf-8")
    rules = "".join(f"  - {{pattern: 'number {row['id']}', reply: 'Answer: {row['answer']}'}}\n" for row in ROWS)
    (tmp_path / "right.yaml").write_text(f"rules:\n{rules}", encoding="utf-8")
    return tmp_path


def test_scores_predictions_and_comparison(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = ["scripted:always.yaml", "scripted:right.yaml"]
    assert run(["benchmark", *models, "--tasks", "made=made.jsonl", "--out", "scores", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((place / "scores/scores.json").read_text(encoding="utf-8"))
    scores = {name: of["tasks"]["made"] for name, of in told["models"].items()}
    assert [of["accuracy"]["estimate"] for of in scores.values()] == [0.6, 1.0]
    assert [of["one_label"] for of in scores.values()] == ["A", None]
    assert scores[models[0]]["constants"] == {"A": 0.6, "B": 0.4}
    (compared,) = told["comparisons"]
    assert (compared["first"], compared["second"]) == (models[1], models[0])
    assert (compared["result"]["only_first"], compared["result"]["only_second"]) == (2, 0)
    rows = read_table(place / "scores/scripted_right.yaml/made.jsonl")
    assert [row["label"] for row in rows] == [row["answer"] for row in ROWS]
    assert set(rows[0]) == {"id", "gold", "label", "status", "correct", "reply"}


def test_a_table_for_people(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(place / "twice.jsonl", [*ROWS, ROWS[0]])
    assert run(["benchmark", "scripted:always.yaml", "--tasks", "made=twice.jsonl", "--published", "--quiet"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for part in (
        "made: 1 repeated rows left out, 5 items asked",
        "scripted:always.yaml: replies, read",
        "A: 60.00%",
        "as good as always answering 'A' (60.00%)",
        "more than 95% of the answers are 'A'",
        "the published scorer, which calls empty answers right, gives 60.00%",
    ):
        assert part in out


def test_the_same_command_asks_nothing_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A budget of three calls stops it; the next execution needs the other two."""
    command = ["benchmark", "scripted:right.yaml", "--tasks", "made=made.jsonl", "--quiet"]
    assert run([*command, "--budget", "calls=3"]) == 3
    assert run([*command, "--budget", "calls=5"]) == 0
    assert "100.00%" in capsys.readouterr().out
    (place / "right.yaml").rename(place / "gone.yaml")
    assert run(command) == 2


def test_posts_are_neither_printed_nor_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(place / "dreaddit.jsonl", [{"query": QUERY, "gold": "Yes, the poster suffers from stress."}])
    command = ["benchmark", "scripted:always.yaml", "--tasks", "dreaddit=dreaddit.jsonl", "--out", "scores"]
    assert run(command) == 0
    written = [path.read_text(encoding="utf-8") for path in (place / "scores").rglob("*.json*")]
    shown = capsys.readouterr()
    assert len(written) == 2
    assert not any(POST in text for text in (*written, shown.out, shown.err))


def test_swaps(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model answers A about men and B about women: all of the answers change, from right to wrong."""
    rows = [{**ROWS[0], "id": n, "question": f"A man is tired for {n} days. What helps him?"} for n in range(4)]
    write_table(place / "men.jsonl", rows)
    (place / "biased.yaml").write_text("default: A\nrules:\n  - {pattern: woman, reply: B}\n", encoding="utf-8")
    command = ["benchmark", "scripted:biased.yaml", "--tasks", "men=men.jsonl", "--swaps", "gender,age", "--json"]
    assert run(command) == 0
    age, gender = json.loads(capsys.readouterr().out)["models"]["scripted:biased.yaml"]["swaps"]
    assert (age["swap"], age["items"], age["changed"]) == ("age", 0, None)
    assert (gender["items"], gender["changed"]["estimate"]) == (4, 1.0)
    assert gender["accuracy"]["difference"]["estimate"] == -1.0


def test_tasks_for_the_harness(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{**row, "set": "xy"[number % 2]} for number, row in enumerate(ROWS)]
    write_table(place / "parts.jsonl", rows)
    assert run(["benchmark", "--tasks", "made=parts.jsonl", "--write-harness", "harness"]) == 0
    assert capsys.readouterr().out == "lm-eval run --include_path harness --tasks strop_made\n"
    assert sorted(path.name for path in (place / "harness").iterdir()) == [
        "strop_made.yaml",
        "strop_made_x.jsonl",
        "strop_made_x.yaml",
        "strop_made_y.jsonl",
        "strop_made_y.yaml",
    ]


@pytest.mark.slow
def test_what_was_forgotten(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A model against its copy, by lm-evaluation-harness itself: nothing differs."""
    pytest.importorskip("lm_eval")
    import datasets

    from strop.models.builtin import builtin_folder

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", place / "datasets")
    (place / "copy").symlink_to(builtin_folder("stories-weak"))
    assert run(["benchmark", "--tasks", "made=made.jsonl", "--write-harness", "harness"]) == 0
    models = ["builtin:stories-weak", "copy", "--harness", "strop_made", "--include", "harness", "--limit", "4"]
    capsys.readouterr()
    assert run(["benchmark", *models, "--json"]) == 0
    (compared,) = json.loads(capsys.readouterr().out)
    assert (compared["task"], compared["result"]["n"], compared["result"]["p_value"]) == ("strop_made", 4, 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which model is to be measured"),
        (["scripted:always.yaml"], "which tasks are to be asked"),
        (["scripted:always.yaml", "--tasks", "made"], "a task is NAME=FILE"),
        (["scripted:always.yaml", "--tasks", "made=none.jsonl"], "no such file"),
        (["scripted:always.yaml", "scripted:always.yaml", "--tasks", "made=made.jsonl"], "a model is named twice"),
        (["scripted:always.yaml", "--tasks", "made=made.jsonl", "--mode", "labels"], "needs a model with weights"),
        (["scripted:always.yaml", "--tasks", "made=made.jsonl", "--swaps", "name"], "nothing of that name"),
        (["m", "--mode", "labels", "--published", "--tasks", "made=made.jsonl"], "the published scorer reads replies"),
        (["scripted:always.yaml", "--harness", "hellaswag"], "forgetting takes two models"),
        (["scripted:always.yaml", "scripted:right.yaml", "--harness", "x"], "without weights on this machine"),
    ],
)
def test_what_the_user_must_fix(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(["benchmark", *arguments]) == 2
    assert message in capsys.readouterr().err
