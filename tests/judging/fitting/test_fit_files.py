"""From files to a judge and its report: what is written, what is said, what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.judging.planted import planted_pairs

from strop.errors import UserError
from strop.evaluation.statistics import Interval
from strop.judging.fitting.fit_files import FitRequest, fit_files
from strop.judging.fitting.fit_report import figures, findings, smallest_shown
from strop.judging.fitting.fitted import FittedJudge
from strop.judging.pairs import HumanPair, better_side, duel_of
from strop.runs.progress import Reporter

QUIET = Reporter(quiet=True)


def write(path: Path, pairs: list[HumanPair], **changes: object) -> Path:
    path.write_text("".join(json.dumps(asdict(pair) | changes) + "\n" for pair in pairs), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def request_(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> FitRequest:
    """120 planted pairs, one of them with identical sides, and a folder for what comes of them."""
    folder = tmp_path_factory.mktemp("fit")
    pairs = planted_pairs(119, groups=30)
    same = replace(pairs[0], id=500, better="the same", worse=" the same ")
    return FitRequest(
        write(folder / "pairs.jsonl", [*pairs, same]),
        folder / "out",
        encoder=str(tiny_encoder),
        grid="single",
        draws=1,
    )


def test_a_fit_writes_a_judge_that_works(request_: FitRequest, tmp_path: Path) -> None:
    report = fit_files(replace(request_, grid="plain"), reporter=QUIET, cache=tmp_path)
    assert sorted(path.name for path in request_.out.iterdir()) == [
        "fit.json",
        "judge.json",
        "learning_curve.svg",
        "weights.safetensors",
    ]
    everything = report.slices[0]
    assert everything.accuracy is not None
    assert everything.accuracy.estimate > 0.85
    assert everything.versus["longer wins"].baseline.estimate == 0.5, "the sides are of equal length"
    assert everything.versus["longer wins"].difference.excludes(0)
    assert (report.pairs, report.groups, report.left_out) == (119, 30, {"identical sides": 1})
    assert report.tried == 4, "without extra labels their weights are no settings"
    assert len(report.chosen) == 5
    assert report.extra_used == (0,) * 5
    stored = json.loads((request_.out / "fit.json").read_text(encoding="utf-8"))
    assert stored["revision"] == report.revision
    assert stored["findings"] == list(findings(report))
    said = "\n".join(findings(report))
    assert "4 settings were tried" in said
    assert "better, beyond chance" in said
    assert "25 labels buy" in said
    judge = FittedJudge.load(request_.out, cache=tmp_path)
    assert judge.revision == report.revision
    assert judge.description.pairs == 119
    new = planted_pairs(40, seed=3)
    found = judge.compare([duel_of(pair) for pair in new])
    assert sum(each.verdict == better_side(pair, duel_of(pair)) for each, pair in zip(found, new, strict=True)) >= 32


def test_the_same_command_gives_the_same_bytes(request_: FitRequest, tmp_path: Path) -> None:
    for name in ("one", "two"):
        fit_files(replace(request_, out=tmp_path / name), reporter=QUIET, cache=tmp_path / "vectors")
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_extra_files_are_accounted_for(request_: FitRequest, tmp_path: Path) -> None:
    """A copy of the file brings nothing; 40 rated responses bring 20 pairs; a text of an own pair keeps one out."""
    copy = write(tmp_path / "copy.jsonl", planted_pairs(119, groups=30))
    texts = [(pair.better, 2) for pair in planted_pairs(20, seed=8)] + [
        (pair.worse, 1) for pair in planted_pairs(20, seed=8)
    ]
    texts[0] = (planted_pairs(1)[0].better, 2)
    rated = tmp_path / "rated.jsonl"
    lines = [
        json.dumps({"context": f"c {n}", "response": text, "stars": stars}) for n, (text, stars) in enumerate(texts)
    ]
    rated.write_text("\n".join(lines) + "\n", encoding="utf-8")
    request = replace(
        request_,
        out=tmp_path / "out",
        extra=(copy, rated),
        extra_fields={"score": "stars"},
        across=True,
        grid="plain",
    )
    report = fit_files(request, reporter=QUIET, cache=tmp_path / "vectors")
    assert [(file.rows, file.preferences, file.copies) for file in report.extra] == [(119, 0, 119), (40, 20, 0)]
    assert sorted(report.extra_used) == [19, 20, 20, 20, 20]
    assert report.tried == 12
    with pytest.raises(UserError, match="no file of extra labels has this field"):
        fit_files(
            replace(request, extra_fields={"score": "stars", "group": "who"}),
            reporter=QUIET,
            cache=tmp_path / "vectors",
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no pairs in this file"),
        ('{"prompt": "p", "text": "t"}\n', "a pair needs 'prompt' with 'better' and 'worse'"),
        ('{"prompt": "p", "better": "same", "worse": "same"}\n', "no pair can be judged"),
        ('{"prompt": "p", "better": "one", "worse": "two"}\n', "too few groups|too few pairs"),
    ],
)
def test_unusable_files_are_one_clear_message(content: str, message: str, request_: FitRequest, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        fit_files(replace(request_, pairs=path, out=tmp_path / "out"), reporter=QUIET, cache=tmp_path)
    assert not (tmp_path / "out").exists()


def test_one_group_is_refused(request_: FitRequest, tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", planted_pairs(30), group="one")
    with pytest.raises(UserError, match="too few groups"):
        fit_files(replace(request_, pairs=path), reporter=QUIET, cache=tmp_path)


def test_the_smallest_difference_by_hand() -> None:
    """An interval of +-.0980 has a standard error of .05; at power .8 that shows (1.960 + 0.842) x .05 = .140."""
    assert smallest_shown(Interval(0.0, -0.098, 0.098, 100)) == pytest.approx(0.1401, abs=1e-4)
    assert smallest_shown(Interval(0.0, 0.0, 0.0, 100)) is None


def test_a_judge_like_its_baseline_is_not_distinguishable() -> None:
    """The same pairs right and wrong: no difference, no number of pairs that would find one."""
    pairs = planted_pairs(40)
    right: NDArray[np.float64] = np.tile([0.0, 1.0], 20)
    found = figures(pairs, [pair.group for pair in pairs], right, {"longer wins": right}, seed=0)
    versus = found[0].versus["longer wins"]
    assert versus.difference.estimate == 0
    assert not versus.difference.excludes(0)
    assert versus.needed is None
    names = {part.name: part.unavailable for part in found}
    assert names["all pairs"] == ""
    assert names["risk language"] == "no such pair in the file"
