"""A judge's certificate: what was measured, on what, of exactly which judge; and the gate that asks for it.

The certificate is bound to the judge's revision, the rubric's hash and the data's hash, and sealed by a hash of its own
content. The seal finds accidents and edits by hand; it is no signature, and whoever wants to forge one can.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError

from strop import __version__
from strop.errors import UserError
from strop.judging.qualifying.qualification import Qualification
from strop.judging.qualifying.verdict import Decision, load_thresholds
from strop.records.tables import atomic_path
from strop.runs.configuration import Config

SCHEMA = 1
NO_RUBRIC = ""
"""The rubric hash of judges that use none."""

FIX = "strop judge qualify --judge M --rubric R --pairs F --out DIR, then name DIR/certificate.json"
FORCE = "or set allow_unqualified: the report and the card then say so"


class JudgeIdentity(Config):
    """Exactly which judge."""

    name: str
    revision: str


class RubricIdentity(Config):
    """Exactly which rubric; all empty for a judge without one."""

    name: str = ""
    version: str = ""
    hash: str = NO_RUBRIC


class DataIdentity(Config):
    """Which human labels: so many pairs, or rated responses."""

    name: str
    hash: str
    rows: int
    groups: int
    left_out: dict[str, int] = Field(default_factory=dict)


class ThresholdsIdentity(Config):
    """Which thresholds."""

    name: str
    version: int
    hash: str


class Figure(Config):
    """A figure with its interval."""

    estimate: float
    low: float
    high: float
    n: int
    level: float


class RuleOutcome(Config):
    """What became of one threshold."""

    rule: str
    shown: str
    outcome: str
    counts_against: bool
    pairs_needed: int | None
    reason: str


class Certificate(Config):
    """What qualifying a judge brought, sealed."""

    schema_version: int = Field(default=SCHEMA)
    judge: JudgeIdentity
    rubric: RubricIdentity
    data: DataIdentity
    ratings: DataIdentity | None = None
    thresholds: ThresholdsIdentity
    judged: int
    decision: Decision
    verdict: str
    figures: dict[str, Figure | None]
    rules: tuple[RuleOutcome, ...]
    strop_version: str
    date: str
    command: str
    seal: str = ""

    @classmethod
    def of(
        cls,
        qualification: Qualification,
        *,
        rubric: RubricIdentity,
        data_name: str,
        left_out: dict[str, int],
        ratings: DataIdentity | None = None,
        date: str,
        command: str,
    ) -> Self:
        """Write the certificate of a qualification.

        Args:
            qualification: What was measured.
            rubric: The rubric that the judge used.
            data_name: Name of the file of human pairs.
            left_out: Its rows that could not be judged, by reason.
            ratings: The rated responses that were measured too.
            date: Day of the measurement, ISO 8601.
            command: The command that makes these figures.
        """
        row = qualification.to_row()
        unsealed = cls(
            judge=JudgeIdentity(name=qualification.judge, revision=qualification.revision),
            rubric=rubric,
            data=DataIdentity(
                name=data_name,
                hash=qualification.data_hash,
                rows=qualification.n,
                groups=qualification.groups,
                left_out=left_out,
            ),
            ratings=ratings,
            thresholds=ThresholdsIdentity(**row["thresholds"]),
            judged=qualification.judgements.judged,
            decision=qualification.verdict.decision,
            verdict=qualification.verdict.text,
            figures=row["figures"],
            rules=tuple(RuleOutcome(**rule) for rule in row["rules"]),
            strop_version=__version__,
            date=date,
            command=command,
        )
        return unsealed.model_copy(update={"seal": unsealed.expected_seal()})

    def expected_seal(self) -> str:
        """Return the hash of everything but the seal."""
        content = self.model_dump(mode="json", exclude={"seal"})
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the certificate, whole or not at all."""
        with atomic_path(path) as part:
            part.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a certificate and check its seal.

        Raises:
            UserError: It is missing, damaged, of another schema, or was changed after it was written.
        """
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not JSON text"
            raise UserError("the judge's certificate cannot be read", value=str(path), why=why, fix=FIX) from None
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA:
            raise UserError(
                "the judge's certificate has another form than this strop reads",
                value=f"schema_version {version!r} in {path}",
                fix=f"qualify the judge again: {FIX}",
            )
        try:
            certificate = cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise UserError(
                "the judge's certificate is damaged", value=f"{place} in {path}", why=first["msg"]
            ) from None
        certificate.verify(path)
        return certificate

    def verify(self, path: Path) -> None:
        """Check the seal.

        Raises:
            UserError: The content is not what was sealed.
        """
        if self.seal != self.expected_seal():
            raise UserError(
                "the judge's certificate was changed after it was written",
                value=str(path),
                why="its seal does not fit its content",
                fix=f"qualify the judge again: {FIX}",
            )


@dataclass(frozen=True, slots=True)
class Standing:
    """How a judge stands in a run; reports and cards print `text`.

    Attributes:
        status: Whether it is qualified, or used although it is not.
        judge_revision: Which judge.
        text: One sentence for people.
        certificate: The certificate; None where there is none that can be used.
    """

    status: Literal["qualified", "unqualified, forced"]
    judge_revision: str
    text: str
    certificate: Certificate | None = None

    @property
    def qualified(self) -> bool:
        """Whether the judge has earned trust."""
        return self.status == "qualified"

    def to_row(self) -> dict[str, Any]:
        """Return the standing as JSON, with the figures where there are any."""
        return {
            "status": self.status,
            "judge_revision": self.judge_revision,
            "text": self.text,
            "certificate": None if self.certificate is None else self.certificate.model_dump(mode="json"),
        }


def require_qualified(
    judge_revision: str, rubric_hash: str, certificate_path: Path | None, *, allow_unqualified: bool = False
) -> Standing:
    """Let a judge pass that has a certificate of this very revision and rubric; refuse every other one.

    Args:
        judge_revision: The judge's revision.
        rubric_hash: Hash of the rubric that it is to use; `NO_RUBRIC` for a judge without one.
        certificate_path: Its certificate; None where none was given.
        allow_unqualified: Let an unqualified judge pass, with a standing that says so.

    Raises:
        UserError: There is no certificate; it cannot be read or was changed; it is another judge's or another
            rubric's; or it says "not qualified" or "cannot tell".
    """
    certificate: Certificate | None = None
    try:
        if certificate_path is None:
            raise UserError(
                "this judge has no certificate",
                value=judge_revision,
                why="nobody has measured how far it agrees with people",
                fix=f"{FIX}; {FORCE}",
            )
        certificate = Certificate.load(certificate_path)
        _require_fit(certificate, judge_revision, rubric_hash, certificate_path)
    except UserError as error:
        if not allow_unqualified:
            raise
        text = f"unqualified judge, used by allow_unqualified: {error.what}"
        return Standing("unqualified, forced", judge_revision, text, certificate)
    return Standing("qualified", judge_revision, _qualified_text(certificate), certificate)


def _require_fit(certificate: Certificate, judge_revision: str, rubric_hash: str, path: Path) -> None:
    if certificate.judge.revision != judge_revision:
        raise UserError(
            "the certificate is that of another judge or of another revision of this one",
            value=f"{certificate.judge.revision} in {path}, and the judge is {judge_revision}",
            fix=f"{FIX}; {FORCE}",
        )
    if certificate.rubric.hash != rubric_hash:
        raise UserError(
            "the certificate was made with another rubric",
            value=f"{certificate.rubric.hash[:12] or 'none'} in {path}, and the rubric is {rubric_hash[:12] or 'none'}",
            why="another wording can raise or lower agreement",
            fix=f"{FIX}; {FORCE}",
        )
    if certificate.decision != "qualified":
        raise UserError(
            f"the judge's certificate says: {certificate.verdict}",
            value=str(path),
            fix=f"use another judge, or collect more labels where they are too few; {FORCE}",
        )


def _qualified_text(certificate: Certificate) -> str:
    accuracy = certificate.figures.get("accuracy")
    agreement = (
        f", agrees with people on {accuracy.estimate:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%})"
        if accuracy
        else ""
    )
    text = f"qualified judge {certificate.judge.name}{agreement}, n={certificate.judged:,}, {certificate.date}"
    if certificate.thresholds.hash != load_thresholds().hash:
        text += f"; held against thresholds of its own: {certificate.thresholds.name}"
    return text
