"""Risk: a screen of what clients write, a hard gate for replies, a dated table of helplines."""

from strop.safety.gate import GateResult, reply_gate
from strop.safety.levels import KINDS, Level
from strop.safety.screen import Screening, screen

__all__ = ["KINDS", "GateResult", "Level", "Screening", "reply_gate", "screen"]
