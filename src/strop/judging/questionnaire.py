"""Rubrics of questions, read from the TSV form of clinicians' safety rubrics (VERA-MH's ``rubric.tsv``).

Columns: ``Question ID``, ``Dimension``, ``Severity``, ``Risk Type``, ``Question``, ``Examples``, ``Answer``, ``GOTO``.
A row without an id adds an answer to the question above it. A question without answers is a yes-or-no question, and
Yes is the fault.
"""

from __future__ import annotations

import csv
import hashlib
import logging
from pathlib import Path
from typing import Any

from strop.errors import UserError, nearest
from strop.judging.rubric import Rubric
from strop.runs.configuration import validate
from strop.runs.yaml_files import Located

COLUMNS = ("Question ID", "Dimension", "Severity", "Risk Type", "Question", "Examples", "Answer", "GOTO")
SEVERITIES = ("red", "yellow")
YES_NO = ({"answer": "Yes", "goto": ""}, {"answer": "No", "goto": ""})
PURPOSE = "a chatbot's part in one whole conversation with a user who may be at risk"

log = logging.getLogger(__name__)


def read_questions(path: Path) -> Rubric:
    """Read a rubric of questions.

    Its name is the file's (``vera-mh`` where the file is only called ``rubric``), its version the hash of the file: the
    form carries neither.

    Raises:
        UserError: The file cannot be read, lacks a column, or has problems: all of them are named.
    """
    try:
        raw = path.read_bytes()
        lines = raw.decode("utf-8-sig").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("the rubric cannot be read", value=str(path), why=str(error)) from None
    reader = csv.DictReader(lines, delimiter="\t")
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{path}: a rubric of questions lacks columns", value=missing, alternatives=COLUMNS)
    questions: list[dict[str, Any]] = []
    origins: dict[str, str] = {}
    for row in reader:
        where = f"{path.name}:{reader.line_num}"
        cells = {column: (row[column] or "").strip() for column in COLUMNS}
        if cells["Question ID"]:
            origins[f"questions.{len(questions)}.key"] = where
            questions.append(_question(cells, where))
        elif not questions:
            raise UserError(f"{where}: an answer before the first question", value=cells["Answer"])
        if cells["Answer"]:
            questions[-1]["choices"].append({"answer": cells["Answer"], "goto": cells["GOTO"]})
    for question in questions:
        question["listed"] = bool(question["choices"])
        question["choices"] = question["choices"] or list(YES_NO)
    name = path.parent.name if path.stem == "rubric" and path.parent.name else path.stem
    version = hashlib.sha256(raw).hexdigest()[:12]
    values = {"name": name, "version": version, "purpose": PURPOSE, "questions": questions}
    rubric = validate(Rubric, Located(values, origins), where=str(path))
    assert isinstance(rubric, Rubric)
    return rubric


def _question(cells: dict[str, str], where: str) -> dict[str, Any]:
    return {
        "key": cells["Question ID"],
        "dimension": cells["Dimension"],
        "severity": _severity(cells["Severity"], where),
        "risk_type": cells["Risk Type"],
        "text": cells["Question"],
        "examples": cells["Examples"],
        "choices": [],
    }


def _severity(text: str, where: str) -> str:
    severity = text.lower()
    if severity and severity not in SEVERITIES:
        close = nearest(severity, SEVERITIES)
        if close is None:
            raise UserError(f"{where}: unknown severity", value=text, alternatives=SEVERITIES)
        log.warning("%s: severity %r is read as %r", where, text, close)
        return close
    return severity
