"""The published files, re-derived from one another (byte for byte where they can be)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

from strop.methods.weak_to_strong import data
from strop.methods.weak_to_strong.agreement import AnswerRule
from strop.methods.weak_to_strong.algorithm import stage_one
from strop.methods.weak_to_strong.audit import (
    leakage,
    pair_sides,
    repetition,
    selection_quality,
    supervisor,
    without_answer,
)
from strop.methods.weak_to_strong.files import pair_files, select_files
from strop.methods.weak_to_strong.selection import AnswerPair, Decision
from strop.records import Question
from strop.records.tables import write_table

GSM8K, MATH = AnswerRule.for_key("gsm8k"), AnswerRule.for_key("math")
WEAK_RESULTS = "outputs/gsm8k_train_2/llama2_7b_results.jsonl"
Rows = list[dict[str, Any]]


def pairs_of(published: Any, stem: str) -> list[AnswerPair]:
    weak, icl = (map(data.answer_from_row, published(f"llama_factory/{stem}_{side}.json")) for side in ("weak", "icl"))
    return [AnswerPair(left, right) for left, right in zip(weak, icl, strict=True)]


def published_bytes(shared_data: Path, name: str) -> bytes:
    return gzip.decompress((shared_data / "weak_to_strong" / f"{name}.gz").read_bytes())


def as_published(examples: Any) -> bytes:
    return json.dumps([data.published_example(example) for example in examples], indent=4).encode()


def test_math_selection_is_exact_and_its_hybrid_equal_to_the_byte(shared_data: Path, tmp_path: Path) -> None:
    """Agreeing and disagreeing rows lie in these two files: 448 of 1,000 must come out, and no other."""
    folder = shared_data / "weak_to_strong" / "llama_factory" / "math"
    weak, icl = (folder / f"train_math_gemma_2b_iter1_{side}.json.gz" for side in ("weak", "icl"))
    report = select_files(weak, icl, MATH, out=tmp_path)
    assert (report.rows, report.kept) == (1000, 448)
    assert report.decisions == {Decision.AGREED: 448, Decision.DIFFERENT: 552}
    hybrid = published_bytes(shared_data, "llama_factory/math/train_math_gemma_2b_iter1_hybrid_wo_aug.json")
    assert (tmp_path / "hybrid.json").read_bytes() == hybrid


def test_math_file_order_is_the_agreed_block_then_the_top_up(published: Any) -> None:
    """Rows 1 to 448 agree, rows 449 to 1,000 differ and have two answers: the top-up rule read off the file."""
    pairs = pairs_of(published, "math/train_math_gemma_2b_iter1")
    assert stage_one(pairs[:448], MATH).decisions == {Decision.AGREED: 448}
    assert stage_one(pairs[448:], MATH).decisions == {Decision.DIFFERENT: 552}
    ids = [pair.weak.id for pair in pairs]
    assert ids[:448] == sorted(ids[:448], key=int)
    assert ids[448:] != sorted(ids[448:], key=int)


def test_math_selection_precision(published: Any) -> None:
    """The agreed answers are right in 255 of 448 cases (56.9 %), the top-up in 49 of 552 (8.9 %)."""
    rows = published("llama_factory/math/train_math_gemma_2b_iter1_weak.json")
    gold = {row["id"]: row["gold"] for row in rows}
    answers = [(row["id"], MATH.extract(row["output"])) for row in rows]
    kept = {row["id"] for row in rows[:448]}
    quality = selection_quality(answers, kept, gold, same=lambda predicted, known: predicted == known)
    assert (quality.kept_correct, quality.correct - quality.kept_correct) == (255, 49)


@pytest.mark.parametrize(("iteration", "questions", "both_empty"), [(1, 2683, 8), (2, 4022, 11)])
def test_gsm8k_selections_agree(published: Any, iteration: int, questions: int, both_empty: int) -> None:
    """Every published pair agrees; 8 and 11 have no answer at all and pass only without the published guard."""
    pairs = pairs_of(published, f"gsm8k/train_gsm8k_llama2_7b_iter{iteration}")
    assert len(pairs) == questions
    guarded, unguarded = stage_one(pairs, GSM8K), stage_one(pairs, GSM8K, allow_empty=True)
    assert guarded.decisions == {Decision.AGREED: questions - both_empty, Decision.NO_WEAK_ANSWER: both_empty}
    assert unguarded.decisions == {Decision.AGREED: questions}
    assert len(without_answer([pair.weak for pair in pairs], GSM8K)) == both_empty


def test_gsm8k_hybrid_is_equal_to_the_byte(published: Any, shared_data: Path) -> None:
    kept = stage_one(pairs_of(published, "gsm8k/train_gsm8k_llama2_7b_iter1"), GSM8K, allow_empty=True)
    for side, examples in (("weak", kept.weak), ("icl", kept.icl), ("hybrid", kept.hybrid)):
        name = f"llama_factory/gsm8k/train_gsm8k_llama2_7b_iter1_{side}.json"
        assert as_published(examples) == published_bytes(shared_data, name)


def test_gsm8k_weak_set_is_a_part_of_the_weak_answers(published: Any) -> None:
    answers = {row["id"]: row["response"] for row in published(WEAK_RESULTS)}
    rows = published("llama_factory/gsm8k/train_gsm8k_llama2_7b_iter1_weak.json")
    assert all(answers[row["id"]] == row["output"] for row in rows)


def test_gsm8k_selection_precision_and_recall(published: Any) -> None:
    """2,683 kept with 89.8 % right, of 7,000 with 41.4 %: recall 2,410 of 2,896."""
    rows = published(WEAK_RESULTS)
    kept = {row["id"] for row in published("llama_factory/gsm8k/train_gsm8k_llama2_7b_iter1_weak.json")}
    answers = [(row["id"], GSM8K.extract(row["response"])) for row in rows]
    gold = {row["id"]: row["gold"] for row in rows}
    quality = selection_quality(answers, kept, gold, same=lambda predicted, known: predicted == known)
    assert (quality.rows, quality.kept) == (7000, 2683)
    assert quality.precision == pytest.approx(0.898, abs=5e-4)
    assert quality.base == pytest.approx(0.414, abs=5e-4)
    assert (quality.kept_correct, quality.correct) == (2410, 2896)
    assert quality.correct == sum(row["result"] for row in rows)


def test_stage_two_invariants_gsm8k(published: Any) -> None:
    """One pair a question, a weak chain on one side of every one (866 chosen, 1,697 rejected), different answers."""
    rows = published("llama_factory/gsm8k/train_gsm8k_llama2_7b_iter2_hybrid_paired.json")
    pairs = [data.pair_from_row(row) for row in rows]
    assert [data.published_pair(pair) for pair in pairs] == rows
    responses = {row["id"]: row["response"] for row in published(WEAK_RESULTS)}
    found = supervisor(pairs, "llama2_7b", responses)
    assert (found.pairs, found.checkable, found.chosen, found.rejected) == (2563, 2563, 866, 1697)
    assert found.share == 1
    sides = pair_sides(pairs, GSM8K)
    assert (sides.questions, sides.same_answer, sides.empty_chosen, sides.empty_rejected) == (2563, 0, 0, 43)


def test_stage_two_invariants_math_and_its_foreign_supervisor(published: Any) -> None:
    """The file is named after gemma_2b, but its weak side is not gemma's: 4 % of the checkable pairs, not all."""
    rows = published("llama_factory/math/train_math_gemma_2b_iter1_hybrid_paired.json")
    pairs = [data.pair_from_row(row) for row in rows]
    sides = pair_sides(pairs, MATH)
    assert (sides.pairs, sides.questions, sides.same_answer, sides.empty_chosen) == (1359, 525, 0, 0)
    assert sides.repeated == 22
    weak = published("llama_factory/math/train_math_gemma_2b_iter1_weak.json")
    found = supervisor(pairs, "gemma_2b", {row["id"]: row["output"] for row in weak})
    assert found.checkable == 610
    assert found.share is not None
    assert found.share < 0.05


def test_math_pairs_per_question(published: Any) -> None:
    """1, 2 and 3 pairs: 75, 66 and 384 questions; a question's chain stands on the same side of all of its pairs."""
    by_question: dict[Any, list[list[str]]] = {}
    for row in published("llama_factory/math/train_math_gemma_2b_iter1_hybrid_paired.json"):
        by_question.setdefault(row["id"], []).append(row["output"])
    sizes = [len(outputs) for outputs in by_question.values()]
    assert [sizes.count(size) for size in (1, 2, 3)] == [75, 66, 384]
    several = [outputs for outputs in by_question.values() if len(outputs) > 1]
    assert all(min(len({output[side] for output in outputs}) for side in (0, 1)) == 1 for outputs in several)


def test_gsm8k_splits_leak(published: Any) -> None:
    """train_1 and train_2 share 279 questions, all from the augmentation, and repeat 127 and 150 inside."""
    splits = {
        name: [Question(row["id"], row["question"]) for row in published(f"gsm8k/{name}.jsonl")]
        for name in ("train_1", "train_2")
    }
    assert [repetition(split).surplus for split in splits.values()] == [127, 150]
    found = leakage(splits["train_1"], splits["train_2"])
    assert found.shared == 279
    assert all(str(identifier).startswith("aug_") for identifier in (*found.first_ids, *found.second_ids))


def test_gsm8k_gold_equals_the_published_results(published: Any, shared_data: Path) -> None:
    """Questions are numbered by line, and the gold behind the published flags is the text after ``####``."""
    questions, gold = data.read_gsm8k(shared_data / "weak_to_strong" / "gsm8k" / "train_2.jsonl.gz")
    results = published(WEAK_RESULTS)
    assert [f"Question: {question.text}\nAnswer:" for question in questions] == [row["prompt"] for row in results]
    assert [known.answer.replace(",", "") for known in gold[:100]] == [row["gold"] for row in results[:100]]
    assert all("<<" not in known.solution for known in gold)


@pytest.fixture(scope="module")
def proxy_samples(published: Any) -> tuple[Rows, Rows]:
    """Ten real answers a question without the unpublished samples: other published texts, rotated by id.

    The responses to a question are drawn from the published answers to it and to its neighbours, so that majorities of
    every strength occur.
    """
    weak = published(WEAK_RESULTS)  # every third question: enough for thousands of draws
    texts: dict[int, list[str]] = {}
    for stem in ("iter1_weak", "iter1_icl", "iter2_weak", "iter2_icl"):
        for row in published(f"llama_factory/gsm8k/train_gsm8k_llama2_7b_{stem}.json"):
            texts.setdefault(row["id"], []).append(row["output"])
    answers, samples = [], []
    for row in weak:
        if row["id"] not in texts or row["id"] % 3:
            continue
        own, random = texts[row["id"]], Random(row["id"])
        strange = [weak[(row["id"] + step) % len(weak)]["response"] for step in range(1, 11)]
        count = random.randint(4, 10)
        ten = [own[step % len(own)] + " " * random.randint(0, 1) for step in range(count)] + strange[count:]
        answer = row["response"] if random.random() < 0.6 else strange[0]
        answers.append({"id": row["id"], "prompt": row["prompt"], "response": answer})
        samples.append({"id": row["id"], "prompt": row["prompt"], "responses": random.sample(ten, 10)})
    return answers, samples


@pytest.mark.parametrize(("pairs", "most", "at_least"), [("gsm8k", 1, 500), ("math", 3, 1000)])
def test_pairs_of_real_text_follow_the_published_stream(
    pairs: Any, most: int, at_least: int, proxy_samples: tuple[Rows, Rows], tmp_path: Path, procedure: ModuleType
) -> None:
    answers, samples = proxy_samples
    weak, ten = tmp_path / "weak.jsonl", tmp_path / "ten.jsonl"
    write_table(weak, answers)
    write_table(ten, samples)
    made = pair_files(ten, weak, GSM8K, pairs=pairs, out=tmp_path / "ours.json", random=Random(42))
    graded = [{**row, "pred": procedure.final_answer(row["response"], "####"), "result": False} for row in answers]
    procedure.write_lines(tmp_path / "graded.jsonl", graded)
    for seed in range(10):
        texts = [(row, row["responses"][seed]) for row in samples]
        rows = [
            {**row, "response": text, "pred": procedure.final_answer(text, "####"), "gold": "", "result": False}
            for row, text in texts
        ]
        procedure.write_lines(tmp_path / f"seed{seed}.jsonl", rows)
    votes = tmp_path / "votes.jsonl"
    procedure.vote([tmp_path / f"seed{seed}.jsonl" for seed in range(10)], votes)
    procedure.full_weak(tmp_path / "graded.jsonl", tmp_path / "full.json")
    files = (tmp_path / name for name in ("graded.jsonl", "full.json", "votes.jsonl", "theirs.json"))
    count = procedure.pair(*files, most=most)
    assert made.pairs == count > at_least
    assert (tmp_path / "ours.json").read_bytes() == (tmp_path / "theirs.json").read_bytes()
