"""The errors that reach a person: what happened, the value, why, the fix, the alternatives; and the exit code.

Library code raises `UserError` for whatever the caller must change and `Stopped` for a stop that the same command
continues. Every other exception is a defect or a failed run and ends with exit code 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


class StropError(Exception):
    """Base of the errors that are printed as one clear message, without a traceback."""

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        value: object | None = None,
        why: str | None = None,
        fix: str | None = None,
        alternatives: Sequence[str] = (),
    ) -> None:
        """Compose the message.

        Args:
            what: What happened, one sentence without a full stop.
            value: The offending value, shown as ``got ...``.
            why: The reason, where it is not obvious.
            fix: What to do, with the flag or the key to change.
            alternatives: The values that would have been accepted.
        """
        self.what, self.value, self.why, self.fix, self.alternatives = what, value, why, fix, tuple(alternatives)
        lines = [what if value is None else f"{what}: got {value!r}"]
        lines += [f"  why: {why}"] if why else []
        lines += [f"  fix: {fix}"] if fix else []
        lines += [f"  available: {', '.join(self.alternatives)}"] if self.alternatives else []
        super().__init__("\n".join(lines))


class UserError(StropError):
    """The user must fix something: a setting, a file, a model folder. Exit code 2."""

    exit_code = 2


class Stopped(StropError):
    """A budget, a signal, a ceiling or an absent server stopped the run; the same command continues it. Exit code 3."""

    exit_code = 3


def nearest(name: str, names: Sequence[str]) -> str | None:
    """Return the entry of `names` that is spelled most like `name`, or None where nothing comes close."""
    matches = get_close_matches(name, names, n=1, cutoff=0.6)
    return matches[0] if matches else None
