"""A plain reading of the published procedure: what `benchmarks/selection.py` and the parity tests compare with.

Every step reads whole files and writes whole files, answers are found with regular expressions and normalised one by
one, and two answers are equal iff their strings are (the symbolic comparison of the release was inert). Written from
the specification of the behaviour, for comparison only: strop itself uses none of it.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from strop.evaluation.answers.normalisation import DELETIONS, SUBSTITUTIONS

Rows = list[dict[str, Any]]

UNWRAPPED = (r"\\text\{(.*?)\}", r"\\textbf\{(.*?)\}", r"\\overline\{(.*?)\}", r"\\boxed\{(.*)\}")


def read_lines(path: Path) -> Rows:
    """Read a whole JSONL file."""
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def write_lines(path: Path, rows: Rows) -> None:
    """Write a whole JSONL file."""
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row) + "\n")


def write_array(path: Path, rows: Rows) -> None:
    """Write a whole JSON array."""
    with path.open("w", encoding="utf-8") as stream:
        json.dump(rows, stream, indent=4)


def normalise(answer: str) -> str:
    """Apply the published normalisation, rule after rule."""
    answer = answer.rsplit("=", maxsplit=1)[-1]
    for old, new in SUBSTITUTIONS:
        answer = answer.replace(old, new)
    for expression in DELETIONS:
        answer = answer.replace(expression, "")
    answer = re.sub(r".*?\$(.*?)\$.*", r"$\1$", answer)
    for wrapped in UNWRAPPED:
        answer = re.sub(wrapped, r"\1", answer)
    answer = re.sub(r"frac([^{])(.)", r"frac{\1}{\2}", answer)
    answer = re.sub(r"sqrt([^{])", r"sqrt{\1}", answer)
    answer = answer.replace("$", "")
    if answer.replace(",", "").isdigit():
        answer = answer.replace(",", "")
    for ending in (".0", ".00", "%"):
        if answer.endswith(ending) and answer[: -len(ending)].isdigit():
            answer = answer[: -len(ending)]
    return answer.lower() if answer.lower() in list("abcdefg") else answer


def final_answer(response: str, key: str) -> str:
    """Find and normalise the final answer of a response."""
    response = response.split("Question", maxsplit=1)[0].strip()
    found = re.findall(f"{key} (.*)$", response)
    answer = found[-1] if found else ""
    if not answer:
        stated = re.findall("The answer is (.*)$", response)
        numbers = re.findall(r"-?\d+\.?\d*", stated[-1].replace(",", "")) if stated else []
        answer = numbers[0].removesuffix(".") if numbers else ""
    return normalise(answer[:-4] if "</s>" in answer else answer)


def grade(answers: Path, test: Path, key: str, results: Path) -> None:
    """Grade a file of answers against the test file: the same rows with ``pred``, ``gold`` and ``result``."""
    golds, rows = read_lines(test), read_lines(answers)
    for row, known in zip(rows, golds, strict=True):
        row["pred"], row["gold"] = final_answer(row["response"], key), normalise(known["answer"])
        row["result"] = row["pred"] == row["gold"]
    write_lines(results, rows)


def full_weak(graded: Path, out: Path) -> None:
    """Write all weak answers as a training set, which `pair` takes the weak chains from."""
    write_array(
        out, [{"id": row["id"], "content": row["prompt"], "output": row["response"]} for row in read_lines(graded)]
    )


def select(weak: Path, icl: Path, out: Path) -> int:
    """Write the three training sets of Stage I from two graded files; return how many questions were kept."""
    sets: dict[str, Rows] = {"weak": [], "icl": [], "hybrid": []}
    for left, right in zip(read_lines(weak), read_lines(icl), strict=True):
        if left["pred"] != "" and left["pred"] == right["pred"]:
            for name, source in (("weak", left), ("icl", right)):
                row = {"id": left["id"], "content": left["prompt"], "output": source["response"]}
                sets[name].append(row)
                sets["hybrid"].append(row)
    for name, rows in sets.items():
        write_array(out / f"{name}.json", rows)
    return len(sets["weak"])


def vote(samples: Sequence[Path], out: Path) -> None:
    """Write the votes of several graded files of samples."""
    votes: Rows = []
    for rows in zip(*(read_lines(path) for path in samples), strict=True):
        majority, count = Counter(row["pred"] for row in rows).most_common(1)[0]
        kept = [{name: row[name] for name in ("response", "pred", "result")} for row in rows]
        votes.append(
            {
                "id": rows[0]["id"],
                "prompt": rows[0]["prompt"],
                "gold": rows[0]["gold"],
                "pos_responses": [row for row in kept if row["pred"] == majority],
                "neg_responses": [row for row in kept if row["pred"] != majority],
                "confidence": count / len(rows),
            }
        )
    write_lines(out, votes)


def pair(graded: Path, weak: Path, votes: Path, out: Path, *, most: int) -> int:
    """Write the pairs of Stage II: one a question (`most` 1) or up to three; return how many."""
    random.seed(42)
    pairs: Rows = []
    chains = json.loads(weak.read_text(encoding="utf-8"))
    for answer, chain, decided in zip(read_lines(graded), chains, read_lines(votes), strict=True):
        winners = [row["response"] for row in decided["pos_responses"]]
        losers = [row["response"] for row in decided["neg_responses"]]
        majority = decided["pos_responses"][0]["pred"]
        if decided["confidence"] < 0.6 or majority == "":
            continue
        own = chain["output"]
        sides: list[list[str]] = []
        if answer["pred"] == majority:
            if losers:
                drawn = random.sample(losers, most) if most == 1 or len(losers) > most else losers
                sides = [[own, loser] for loser in drawn]
        elif decided["confidence"] >= 0.8:
            first = random.sample(winners, 1)[0]
            sides = [[first, own], *([winner, own] for winner in winners if winner != first)][:most]
        for output in sides:
            pairs.append({"id": answer["id"], "instruction": chain["content"], "input": "", "output": output})
    write_array(out, pairs)
    return len(pairs)
