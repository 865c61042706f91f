"""Both stages on files: published bytes, nothing left behind on an error, gold never read."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

from strop.errors import UserError
from strop.methods.weak_to_strong.agreement import AnswerRule
from strop.methods.weak_to_strong.algorithm import TopUp, stage_one
from strop.methods.weak_to_strong.data import published_example, read_answers
from strop.methods.weak_to_strong.files import audit_selection, columns_path, pair_files, read_gold, select_files
from strop.methods.weak_to_strong.selection import AnswerPair
from strop.records.tables import read_table, write_table

RULE = AnswerRule.for_key("gsm8k")


def write_answers(path: Path, responses: list[str], **extra: Any) -> Path:
    rows = ({"id": n, "prompt": f"Question: {n}\nAnswer:", "response": text} for n, text in enumerate(responses))
    write_table(path, [{**row, **extra} for row in rows])
    return path


def write_gold(path: Path, count: int) -> Path:
    write_table(path, [{"answer": "0"}] * count)
    return path


def random_responses(random: Random, count: int) -> list[str]:
    return [
        f"step {random.random()}\n#### {random.randint(1, 3)}" if random.random() < 0.9 else "?" for _ in range(count)
    ]


@pytest.fixture
def two_files(tmp_path: Path) -> tuple[Path, Path]:
    random = Random(5)
    return (
        write_answers(tmp_path / "weak.jsonl", random_responses(random, 60)),
        write_answers(tmp_path / "icl.jsonl", random_responses(random, 60)),
    )


def test_select_writes_what_the_plain_procedure_writes(
    two_files: tuple[Path, Path], tmp_path: Path, procedure: ModuleType
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    theirs.mkdir()
    graded = []
    test = write_gold(tmp_path / "test.jsonl", 60)
    for path in two_files:
        graded.append(path.with_suffix(".graded.jsonl"))
        procedure.grade(path, test, "####", graded[-1])
    kept = procedure.select(*graded, theirs)
    assert 5 < kept < 50
    assert select_files(*two_files, RULE, out=ours).kept == kept
    assert sorted(path.name for path in ours.iterdir()) == ["hybrid.json", "icl.json", "weak.json"]
    for name in ("weak.json", "icl.json", "hybrid.json"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()


def test_select_equals_stage_one_in_memory_with_top_up(two_files: tuple[Path, Path], tmp_path: Path) -> None:
    report = select_files(*two_files, RULE, out=tmp_path / "out", top_up=TopUp(40, Random(7)))
    pairs = map(AnswerPair, *(read_answers(path) for path in two_files))
    kept = stage_one(pairs, RULE, top_up=TopUp(40, Random(7)))
    assert (report.kept, report.topped_up) == (40, len(kept.topped_up))
    for name, examples in (("weak", kept.weak), ("icl", kept.icl), ("hybrid", kept.hybrid)):
        assert read_table(tmp_path / "out" / f"{name}.json") == [published_example(example) for example in examples]


def test_select_does_not_depend_on_the_order_of_the_second_file(two_files: tuple[Path, Path], tmp_path: Path) -> None:
    weak, icl = two_files
    shuffled = tmp_path / "shuffled.jsonl"
    write_table(shuffled, Random(3).sample(read_table(icl), 60))
    select_files(weak, icl, RULE, out=tmp_path / "a")
    select_files(weak, shuffled, RULE, out=tmp_path / "b")
    assert (tmp_path / "a" / "hybrid.json").read_bytes() == (tmp_path / "b" / "hybrid.json").read_bytes()


def test_select_leaves_nothing_when_ids_are_missing(two_files: tuple[Path, Path], tmp_path: Path) -> None:
    weak, icl = two_files
    write_table(icl, read_table(icl)[:-2])
    with pytest.raises(UserError, match=r"2 ids of .*weak.jsonl are missing from .*icl.jsonl: 58, 59"):
        select_files(weak, icl, RULE, out=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_select_keeps_an_earlier_selection_when_the_new_one_fails(two_files: tuple[Path, Path], tmp_path: Path) -> None:
    weak, icl = two_files
    select_files(weak, icl, RULE, out=tmp_path / "out")
    before = (tmp_path / "out" / "weak.json").read_bytes()
    icl.write_text(icl.read_text() + "{broken\n")
    with pytest.raises(UserError, match="line 61: not valid JSON"):
        select_files(weak, icl, RULE, out=tmp_path / "out")
    assert (tmp_path / "out" / "weak.json").read_bytes() == before


def test_an_empty_selection_is_an_empty_array(tmp_path: Path) -> None:
    weak = write_answers(tmp_path / "weak.jsonl", ["#### 1"])
    icl = write_answers(tmp_path / "icl.jsonl", ["#### 2"])
    assert select_files(weak, icl, RULE, out=tmp_path).kept == 0
    assert json.loads((tmp_path / "hybrid.json").read_text()) == []


def write_samples(path: Path, random: Random, count: int, **extra: Any) -> Path:
    rows = []
    for number in range(count):
        favourite = random.choice("123")
        responses = [
            f"#### {favourite}" + " " * random.randint(0, 3) if random.random() < 0.75 else text
            for text in random_responses(random, 10)
        ]
        rows.append({"id": number, "prompt": f"Question: {number}\nAnswer:", "responses": responses, **extra})
    write_table(path, rows)
    return path


@pytest.mark.parametrize(("pairs", "most"), [("gsm8k", 1), ("math", 3)])
def test_pairs_are_what_the_plain_procedure_writes(
    pairs: Any, most: int, tmp_path: Path, procedure: ModuleType
) -> None:
    weak = write_answers(tmp_path / "weak.jsonl", random_responses(Random(1), 80))
    samples = write_samples(tmp_path / "ten.jsonl", Random(2), 80)
    made = pair_files(samples, weak, RULE, pairs=pairs, out=tmp_path / "ours.json", random=Random(42))
    test, own, full = (tmp_path / name for name in ("test.jsonl", "weak.graded.jsonl", "full_weak.json"))
    procedure.grade(weak, write_gold(test, 80), "####", own)
    procedure.full_weak(own, full)
    graded = []
    for index in range(10):
        texts = [row["responses"][index] for row in read_table(samples)]
        drawn = write_answers(tmp_path / f"seed{index}.jsonl", texts)
        graded.append(tmp_path / f"seed{index}.graded.jsonl")
        procedure.grade(drawn, test, "####", graded[-1])
    votes, theirs = tmp_path / "votes.jsonl", tmp_path / "theirs.json"
    procedure.vote(graded, votes)
    assert made.pairs == procedure.pair(own, full, votes, theirs, most=most) > 20
    assert (tmp_path / "ours.json").read_bytes() == theirs.read_bytes()
    columns = read_table(columns_path(tmp_path / "ours.json"))
    assert [[row["chosen"], row["rejected"]] for row in columns] == [
        row["output"] for row in read_table(tmp_path / "ours.json")
    ]


def test_pairs_do_not_change_when_gold_is_scrambled(tmp_path: Path) -> None:
    """Fields that say what is right, in both files: scrambled, reversed or missing, the pairs are the same bytes."""
    outputs = []
    for name, extra in (("a", {}), ("b", {"gold": "1", "result": True}), ("c", {"gold": "x", "result": False})):
        weak = write_answers(tmp_path / f"weak{name}.jsonl", random_responses(Random(1), 40), **extra)
        samples = write_samples(tmp_path / f"ten{name}.jsonl", Random(2), 40, **extra)
        pair_files(samples, weak, RULE, pairs="math", out=tmp_path / f"{name}.json", random=Random(42))
        outputs.append((tmp_path / f"{name}.json").read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]
    assert len(outputs[0]) > 100


def test_pairs_follow_the_samples_and_count_differing_prompts(tmp_path: Path) -> None:
    weak = write_answers(tmp_path / "weak.jsonl", ["#### 1", "#### 2"])
    rows = [{"id": n, "prompt": "other", "responses": ["#### 1"] * 8 + ["#### 2"] * 2} for n in (1, 0)]
    write_table(tmp_path / "ten.jsonl", rows)
    made = pair_files(tmp_path / "ten.jsonl", weak, RULE, pairs="gsm8k", out=tmp_path / "p.json", random=Random(42))
    assert (made.pairs, made.different_prompts) == (2, 2)
    assert [row["id"] for row in read_table(tmp_path / "p.json")] == [1, 0]


def test_columns_path() -> None:
    assert columns_path(Path("a/pairs.json.gz")) == Path("a/pairs_chosen_rejected.json.gz")
    assert columns_path(Path("my.pairs.jsonl")) == Path("my.pairs_chosen_rejected.jsonl")


def test_gold_by_id_or_by_line(tmp_path: Path) -> None:
    write_table(tmp_path / "a.jsonl", [{"id": 5, "gold": "1"}, {"answer": 2}])
    assert read_gold(tmp_path / "a.jsonl") == {5: "1", 1: "2"}
    write_table(tmp_path / "b.jsonl", [{"id": 5}])
    with pytest.raises(UserError, match="row 1: no gold answer"):
        read_gold(tmp_path / "b.jsonl")


def test_selection_audit_refuses_gold_of_other_questions(tmp_path: Path) -> None:
    weak = write_answers(tmp_path / "weak.jsonl", ["#### 1"])
    write_table(tmp_path / "gold.jsonl", [{"id": "x", "gold": "1"}])
    with pytest.raises(UserError, match="has a gold answer"):
        audit_selection(weak, weak, tmp_path / "gold.jsonl", RULE, same=lambda *both: True)
