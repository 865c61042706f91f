"""Final answers: finding them in a response, normalising them, deciding whether two are the same.

Three modes: ``compat`` reproduces the published Weak-to-Strong files to the last quirk, ``strict`` means mathematically
equal, ``lenient`` also accepts an answer that is stated without the key.
"""

from strop.evaluation.answers.equality import same_answer
from strop.evaluation.answers.extraction import (
    MODES,
    AnswerKey,
    Mode,
    extract_answer,
    parse_key,
    parse_mode,
    prepare_gold,
)
from strop.evaluation.answers.normalisation import normalise
from strop.evaluation.answers.symbolic import SymbolicComparer, Verdict

__all__ = [
    "MODES",
    "AnswerKey",
    "Mode",
    "SymbolicComparer",
    "Verdict",
    "extract_answer",
    "normalise",
    "parse_key",
    "parse_mode",
    "prepare_gold",
    "same_answer",
]
