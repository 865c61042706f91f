"""Grading, selection, voting and pairs against a plain reading of the published procedure, side by side in one run.

    python benchmarks/selection.py [--questions 7000] [--rounds 3] [--json FILE]

Both read the same answers (ten samples a question, one weak and one in-context answer) and write the same training
sets and pairs, which is checked to the byte. They alternate, and the fastest round of each counts, in processor time:
other work on the machine only ever adds to it. The plain reading grades once and hands its grades on; strop's commands
each read answers, so that selection alone costs more and the whole less.
Memory is the peak of a process of its own for each step, at this size and at ten times as many questions.

The text is the real weak answers of the published run where ``STROP_SHARED`` (or ``../shared``) holds them, rotated by
id; arithmetic stories otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SAMPLES = 10
KEY = "gsm8k"
TARGETS = {"speed": 3.0, "memory": 1.2}
STEPS = ("grade", "select", "pairs")
GROWTH = 10


def stories(count: int) -> list[tuple[str, str, str]]:
    """Return ``(prompt, response, gold)`` of generated stories."""
    from random import Random

    from strop.methods.weak_to_strong.prompts import zero_shot_prompt
    from strop.methods.weak_to_strong.stories import draw_story, solve

    random = Random(0)
    drawn = [draw_story(random, steps=3) for _ in range(count)]
    return [(zero_shot_prompt(story.question), solve(story), str(story.answer)) for story in drawn]


def real_answers() -> list[tuple[str, str, str]]:
    """Return ``(prompt, response, gold)`` of the published run, or nothing where it is not on this machine."""
    from strop.records.tables import iter_table

    root = Path(os.environ.get("STROP_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    path = root / "data" / "weak_to_strong" / "outputs" / "gsm8k_train_2" / "llama2_7b_results.jsonl.gz"
    return [(row["prompt"], row["response"], row["gold"]) for row in iter_table(path)] if path.is_file() else []


def make(folder: Path, questions: int) -> None:
    """Write ``weak``, ``icl``, ``ten`` (all samples), a file per sample, and the test file with gold, row by row.

    Every other sample or so repeats a question's own answer with other white space; the rest are the answers to the
    questions after it. Shares of the vote from 0.2 to 1.0 occur.
    """
    from random import Random

    source = real_answers() or stories(2000)
    folder.mkdir(parents=True, exist_ok=True)
    names = ("weak", "icl", "ten", "test", *(f"seed{index}" for index in range(SAMPLES)))
    files = {name: (folder / f"{name}.jsonl").open("w", encoding="utf-8") for name in names}
    for number in range(questions):
        random, (prompt, response, gold) = Random(number), source[number % len(source)]
        strange = [source[(number + step) % len(source)][1] for step in range(1, SAMPLES + 1)]
        own = random.randint(2, SAMPLES)
        ten = [response.replace(" ", "  ", step) for step in range(own)] + strange[own:]
        random.shuffle(ten)
        rows: dict[str, dict[str, object]] = {
            "weak": {"response": response if random.random() < 0.6 else strange[0]},
            "icl": {"response": response if random.random() < 0.6 else strange[1]},
            "ten": {"responses": ten},
        }
        rows |= {f"seed{index}": {"response": text} for index, text in enumerate(ten)}
        test = {"source": "GSM8K", "question": prompt, "solution": response, "answer": gold, "tag": {}}
        files["test"].write(json.dumps(test) + "\n")
        for name, row in rows.items():
            files[name].write(json.dumps({"id": number, "prompt": prompt, **row, "gold": gold}) + "\n")
    for file in files.values():
        file.close()


def grade(folder: Path, out: Path) -> None:
    """Grade the weak, the in-context and all sampled answers, row by row: ``id, pred, gold, result``."""
    from strop.evaluation.answer_files import read_responses
    from strop.evaluation.answers import parse_key
    from strop.evaluation.grading import GradingSummary, grade
    from strop.records.tables import iter_table, write_table

    def graded(name: str) -> Iterator[dict[str, object]]:
        summary = GradingSummary()
        for response, answer in grade(read_responses(iter_table(folder / f"{name}.jsonl")), parse_key(KEY), "compat"):
            summary.add(response, answer)
            yield answer.to_row()

    for name in ("weak", "icl", "ten"):
        write_table(out / f"{name}.graded.jsonl", graded(name))


def select(folder: Path, out: Path) -> None:
    """Stage I."""
    from strop.methods.weak_to_strong.agreement import AnswerRule
    from strop.methods.weak_to_strong.files import select_files

    select_files(folder / "weak.jsonl", folder / "icl.jsonl", AnswerRule.for_key(KEY), out=out)


def pairs(folder: Path, out: Path) -> None:
    """Stage II, votes and pairs."""
    from random import Random

    from strop.methods.weak_to_strong.agreement import AnswerRule
    from strop.methods.weak_to_strong.files import pair_files

    rule, random = AnswerRule.for_key(KEY), Random(42)
    pair_files(folder / "ten.jsonl", folder / "weak.jsonl", rule, pairs="gsm8k", out=out / "pairs.json", random=random)


OURS: dict[str, Callable[[Path, Path], None]] = {"grade": grade, "select": select, "pairs": pairs}


def plain_steps() -> dict[str, Callable[[Path, Path], None]]:
    """Return the same steps as the plain procedure does them."""
    import published_procedure as plain

    samples = [f"seed{index}" for index in range(SAMPLES)]

    def graded(folder: Path, out: Path) -> None:
        for name in ("weak", "icl", *samples):
            plain.grade(folder / f"{name}.jsonl", folder / "test.jsonl", "####", out / f"{name}.results.jsonl")

    def selected(_: Path, out: Path) -> None:
        plain.select(out / "weak.results.jsonl", out / "icl.results.jsonl", out)

    def paired(_: Path, out: Path) -> None:
        plain.vote([out / f"{name}.results.jsonl" for name in samples], out / "votes.jsonl")
        plain.full_weak(out / "weak.results.jsonl", out / "full_weak.json")
        plain.pair(out / "weak.results.jsonl", out / "full_weak.json", out / "votes.jsonl", out / "pairs.json", most=1)

    return {"grade": graded, "select": selected, "pairs": paired}


def seconds(steps: dict[str, Callable[[Path, Path], None]], folder: Path, out: Path) -> dict[str, float]:
    """Run all steps and return the processor time of each."""
    from strop.evaluation.answers import normalisation

    out.mkdir(exist_ok=True)
    normalisation._remembered.cache_clear()  # every round starts as a new process would
    spent = {}
    for name, step in steps.items():
        start = time.process_time()
        step(folder, out)
        spent[name] = time.process_time() - start
    return spent


def compare(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Alternate both readings and return the least processor seconds of each step; check that they agree."""
    ours, plain = folder / "ours", folder / "plain"
    runs = [(seconds(OURS, folder, ours), seconds(plain_steps(), folder, plain)) for _ in range(rounds)]
    for name in ("weak.json", "icl.json", "hybrid.json", "pairs.json"):
        if (ours / name).read_bytes() != (plain / name).read_bytes():
            raise SystemExit(f"{name} differs between the two readings")
    return {
        side: {step: min(run[index][step] for run in runs) for step in STEPS}
        for index, side in enumerate(("ours", "plain"))
    }


def worker(job: str, folder: Path, number: int) -> None:
    """Do one job in this process and print its result as JSON."""
    if job == "make":
        make(folder, number)
        print("null")
    elif job == "compare":
        print(json.dumps(compare(folder, number)))
    else:
        out = folder / "peak"
        out.mkdir(exist_ok=True)
        OURS[job](folder, out)
        print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def in_process(job: str, folder: Path, number: int = 0) -> object:
    """Run `worker` in a process of its own; this one stays small, for a child's peak begins with its parent's."""
    command = [sys.executable, __file__, "--job", job, "--folder", str(folder), "--number", str(number)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def measure(questions: int, rounds: int) -> dict[str, object]:
    """Return processor seconds, their ratios, peaks in MiB and their growth."""
    with tempfile.TemporaryDirectory() as name:
        folder, larger = Path(name) / "one", Path(name) / "ten"
        in_process("make", folder, questions)
        times = in_process("compare", folder, rounds)
        assert isinstance(times, dict)
        in_process("make", larger, questions * GROWTH)
        peaks = {step: [float(str(in_process(step, place))) for place in (folder, larger)] for step in STEPS}
    whole = {side: sum(spent.values()) for side, spent in times.items()}
    return {
        "questions": questions,
        "samples": SAMPLES,
        "seconds": times,
        "speed_ratio": {step: times["plain"][step] / times["ours"][step] for step in STEPS},
        "speed_ratio_all": whole["plain"] / whole["ours"],
        "peak_mib": peaks,
        "peak_growth": {step: large / small for step, (small, large) in peaks.items()},
        "targets": TARGETS,
    }


def show(found: dict[str, object]) -> None:
    """Print a table of `measure`'s result."""
    times, ratios, peaks, growth = (found[name] for name in ("seconds", "speed_ratio", "peak_mib", "peak_growth"))
    assert isinstance(times, dict)
    assert isinstance(ratios, dict)
    assert isinstance(peaks, dict)
    assert isinstance(growth, dict)
    print(f"{'step':8}{'plain s':>9}{'strop s':>9}{'ratio':>7}   {'peak MiB':>9}{'at x10':>8}{'growth':>8}")
    for step in STEPS:
        plain, ours, (small, large) = times["plain"][step], times["ours"][step], peaks[step]
        print(
            f"{step:8}{plain:9.2f}{ours:9.2f}{ratios[step]:7.1f}   {small:9.1f}{large:8.1f}{growth[step]:8.2f}",
        )
    print(f"all steps: {found['speed_ratio_all']:.2f} times faster (target {TARGETS['speed']:g}), ", end="")
    print(f"largest growth of memory {max(growth.values()):.2f} (target {TARGETS['memory']:g})")


def main() -> None:
    """Measure and print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=7000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the JSON to this file")
    for hidden, kind in (("--job", str), ("--folder", Path), ("--number", int)):
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        worker(options.job, options.folder, options.number)
        return
    found = measure(options.questions, options.rounds)
    show(found)
    text = json.dumps(found, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
