"""Rubrics: what a judge is asked to look at, as versioned data files.

A rubric holds either criteria, each rated 1 to 5 (a YAML file), or questions with named answers that lead from one to
the next (a TSV file, the form of clinicians' safety rubrics). Its hash covers what it says and nothing else: comments
and layout of the file do not change it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from strop.errors import UserError, nearest
from strop.runs.configuration import Config, validate
from strop.runs.yaml_files import Located, read_yaml

RUBRICS = Path(__file__).resolve().parent.parent / "data" / "rubrics"
SCALE = (1, 2, 3, 4, 5)
"""The ratings that a criterion may get."""
END = "END"
"""Where an answer leads that ends the questions."""

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


class Criterion(Config):
    """One property that is rated 1 to 5."""

    key: Key
    """Short name in lower case: replies, files and tables use it."""
    name: Words
    """What people call it."""
    description: Words
    """What to look at."""
    anchors: dict[Literal[1, 3, 5], Words]
    """What 1, 3 and 5 look like."""
    weight: float = Field(gt=0, allow_inf_nan=False)
    """Share in the weighted mean, relative to the other criteria."""
    gate: bool = False
    """Whether a response that fails here can never be preferred, whatever its other ratings."""
    passes_from: Literal[2, 3, 4, 5] = 3
    """The lowest rating that passes the gate."""

    @model_validator(mode="after")
    def _anchored(self) -> Self:
        missing = [str(rating) for rating in (1, 3, 5) if rating not in self.anchors]
        if missing:
            raise ValueError(f"criterion {self.key!r} has no anchor for {', '.join(missing)}: say what it looks like")
        return self


class Choice(Config):
    """An answer to a question, and the question that it leads to."""

    answer: Words
    goto: str = ""
    """Key of the next question, ``END``, or empty for the one that follows."""


class Question(Config):
    """One question with named answers."""

    key: Words
    dimension: str = ""
    severity: Literal["red", "yellow", ""] = ""
    """How bad the fault is that the question asks about; red is a gate."""
    risk_type: str = ""
    """The branch that the question belongs to; empty for all of them."""
    text: Words
    examples: str = ""
    choices: tuple[Choice, ...]
    listed: bool = True
    """Whether the file lists the answers; otherwise they are Yes (a fault) and No."""

    @property
    def gate(self) -> bool:
        """Whether a fault here rules the response out."""
        return self.severity == "red"


class Rubric(Config):
    """What a judge looks at: criteria to rate, or questions to answer."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name in reports; with a version at its end where several are shipped."""
    version: int | Words
    """Raise it with every change of wording."""
    purpose: Words
    """What is judged, for the judge's instructions: "one counsellor's reply to a client's message"."""
    criteria: tuple[Criterion, ...] = ()
    """Properties to rate."""
    questions: tuple[Question, ...] = ()
    """Questions to answer; from TSV files."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.criteria) == bool(self.questions):
            raise ValueError("a rubric needs criteria to rate, or questions to answer, and not both")
        keys = [*self.keys, *(question.key for question in self.questions)]
        repeated = [key for key, count in Counter(keys).items() if count > 1]
        if repeated:
            raise ValueError(f"keys must be unique, these repeat: {', '.join(repeated)}")
        lost = [
            f"{question.key} leads to {choice.goto!r}"
            for question in self.questions
            for choice in question.choices
            if choice.goto and choice.goto != END and choice.goto not in keys
        ]
        if lost:
            raise ValueError(f"answers must lead to a question or to {END}: {'; '.join(lost)}")
        return self

    @property
    def hash(self) -> str:
        """Hash of what the rubric says, whatever its file looks like."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def label(self) -> str:
        """Name, version and the beginning of the hash, for reports."""
        return f"{self.name} (version {self.version}, {self.hash[:12]})"

    @property
    def keys(self) -> tuple[str, ...]:
        """The criteria's keys, in the rubric's order."""
        return tuple(criterion.key for criterion in self.criteria)

    def criterion(self, key: str) -> Criterion:
        """Return the criterion called `key`.

        Raises:
            UserError: There is none.
        """
        for criterion in self.criteria:
            if criterion.key == key:
                return criterion
        close = nearest(key, self.keys)
        hint = f"did you mean {close!r}?" if close else None
        raise UserError(f"rubric {self.name} has no such criterion", value=key, fix=hint, alternatives=self.keys)

    def require_criteria(self) -> None:
        """Refuse a rubric of questions where ratings are wanted.

        Raises:
            UserError: The rubric has no criteria.
        """
        if not self.criteria:
            raise UserError(
                f"rubric {self.name} asks questions one after another and rates nothing",
                value=f"{len(self.questions)} questions",
                fix="give a rubric with criteria",
                alternatives=shipped_rubrics(),
            )

    def next_question(self, key: str, answer: str, *, risk_type: str = "") -> Question | None:
        """Return the question that follows when `key` got `answer`; None where the questions end.

        A listed answer leads where the file says, or to the next question. Where the file lists no answers, Yes is a
        fault that settles the dimension and leads to the next one, and No leads to the next question. Questions of
        another risk type than the branch that was chosen are passed over.

        Args:
            key: The question that was answered.
            answer: One of its answers; case and outer space do not matter.
            risk_type: The branch that was chosen, as of the question that an answer led to; empty before that.

        Raises:
            UserError: There is no such question, or it has no such answer.
        """
        place, question = self._question(key)
        choices = {choice.answer.casefold(): choice for choice in question.choices}
        choice = choices.get(answer.strip().casefold())
        if choice is None:
            answers = [offered.answer for offered in question.choices]
            raise UserError(f"question {key} has no such answer", value=answer, alternatives=answers)
        if choice.goto:
            return None if choice.goto == END else self._question(choice.goto)[1]
        settled = not question.listed and choice.answer == "Yes"
        for follower in self.questions[place + 1 :]:
            if settled and follower.dimension == question.dimension:
                continue
            if not follower.risk_type or not risk_type or follower.risk_type == risk_type:
                return follower
        return None

    def _question(self, key: str) -> tuple[int, Question]:
        for place, question in enumerate(self.questions):
            if question.key == key:
                return place, question
        raise UserError(f"rubric {self.name} has no such question", value=key)


def walk(rubric: Rubric, answers: Sequence[str]) -> list[Question]:
    """Return the questions that are met when `answers` are given one after another, the one left open included.

    Args:
        rubric: A rubric of questions.
        answers: The answer to the first question, to the one that it leads to, and so on.

    Raises:
        UserError: There are more answers than questions on the way, or one of them is not offered.
    """
    met: list[Question] = [*rubric.questions[:1]]
    risk_type = ""
    for number, answer in enumerate(answers):
        if number >= len(met):
            raise UserError("the questions ended before the answers did", value=answer)
        follower = rubric.next_question(met[-1].key, answer, risk_type=risk_type)
        if follower is not None:
            risk_type = follower.risk_type or risk_type
            met.append(follower)
    return met


def shipped_rubrics() -> list[str]:
    """Return the names of the rubrics that come with strop."""
    return sorted(path.stem for path in RUBRICS.glob("*.yaml"))


def load_rubric(rubric: str | Path) -> Rubric:
    """Read a rubric: the name of a shipped one, or a YAML or TSV file.

    Raises:
        UserError: There is no such rubric, or it has problems: all of them are named.
    """
    path = RUBRICS / f"{rubric}.yaml"
    if not (isinstance(rubric, str) and path.is_file()):
        path = Path(rubric)
    if not path.is_file():
        names = shipped_rubrics()
        close = nearest(str(rubric), names)
        hint = f"did you mean {close!r}?" if close else "give the path of a YAML or TSV file"
        raise UserError("there is no such rubric", value=str(rubric), fix=hint, alternatives=names)
    if path.suffix == ".tsv":
        from strop.judging.questionnaire import read_questions

        return read_questions(path)
    return _read_criteria(path)


def _read_criteria(path: Path) -> Rubric:
    content = read_yaml(path)
    if "questions" in content.values:
        raise UserError(f"{path}: questions come from TSV files", fix="write criteria, or give the TSV file")
    if not content.values.get("criteria"):
        raise UserError(f"{path}: a rubric needs criteria", value=sorted(content.values), fix="add a list 'criteria'")
    rubric = validate(Rubric, _with_integer_anchors(content), where=str(path))
    assert isinstance(rubric, Rubric)
    return rubric


def _with_integer_anchors(content: Located) -> Located:
    """Accept anchors under "1" as under 1: JSON knows no other keys."""
    criteria = content.values["criteria"]
    for criterion in criteria if isinstance(criteria, list) else ():
        anchors = criterion.get("anchors") if isinstance(criterion, dict) else None
        if isinstance(anchors, dict):
            criterion["anchors"] = {int(key) if str(key).isdecimal() else key: text for key, text in anchors.items()}
    return content
