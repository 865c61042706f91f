"""Risk: a screen of what clients write, a hard gate for replies, a dated table of helplines."""

from strop.safety.gate import GateResult, reply_gate
from strop.safety.helplines import Helpline, helplines, numbers_not_in_table, without_unknown_numbers
from strop.safety.levels import KINDS, Level
from strop.safety.replies import CrisisCheck, crisis_checks
from strop.safety.screen import Screening, as_text, screen

__all__ = [
    "KINDS",
    "CrisisCheck",
    "GateResult",
    "Helpline",
    "Level",
    "Screening",
    "as_text",
    "crisis_checks",
    "helplines",
    "numbers_not_in_table",
    "reply_gate",
    "screen",
    "without_unknown_numbers",
]
