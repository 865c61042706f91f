"""Proof that a converted model is what it should be, on the user's machine."""

from strop.heads.verification.report import Check, Drop, Verification
from strop.heads.verification.verifying import verify

__all__ = ["Check", "Drop", "Verification", "verify"]
