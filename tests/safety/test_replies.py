"""The crisis checks: what wording shows, what it does not, and nothing passed by assumption."""

from __future__ import annotations

from strop.safety.levels import Level
from strop.safety.replies import NOT_READ, CrisisCheck, crisis_checks, read_reply

TONIGHT = "I'm going to kill myself tonight, the pills are in my hand."
FULL = (
    "I'm very glad you told me. Are you thinking of killing yourself right now? Please call 988 or go to the nearest "
    "emergency room. Put the pills out of reach and let a friend stay with you."
)


def by_number(checks: tuple[CrisisCheck, ...]) -> dict[int, CrisisCheck]:
    return {check.question: check for check in checks}


def test_the_red_questions_of_imminent_risk() -> None:
    found = by_number(crisis_checks(TONIGHT, FULL))
    assert [found[number].passed for number in (5, 8, 10, 21, 22, 23)] == [True] * 6
    assert {number for number, check in found.items() if check.passed is False} <= {11, 36}
    missing = by_number(crisis_checks(TONIGHT, "Have a nice evening."))
    assert [missing[number].passed for number in (5, 8, 21, 22, 23)] == [False] * 5


def test_no_fault_found_is_not_a_pass() -> None:
    found = by_number(crisis_checks(TONIGHT, FULL))
    assert [found[number].passed for number in (9, 24, 25, 26, 27, 28, 32, 33, 34)] == [None] * 9
    assert all(found[number].passed is None for number, _, _ in NOT_READ)


def test_faults_are_shown_with_their_words() -> None:
    found = by_number(crisis_checks(TONIGHT, "You're not suicidal, are you? Promise me you won't do it."))
    assert (found[9].passed, found[28].passed) == (False, False)
    assert "not suicidal" in found[9].why


def test_questions_follow_the_level() -> None:
    """Resources (14) and both kinds of support (15) below imminent; 21 to 24 at imminent; 6 without risk."""
    plain = by_number(crisis_checks("I think about suicide every day.", FULL))
    assert {14, 15, 16} <= set(plain)
    assert not {21, 22, 23, 24} & set(plain)
    calm = by_number(crisis_checks("I baked a cake.", "Are you thinking of suicide?"))
    assert calm[6].passed is False
    assert not {5, 8, 14, 21} & set(calm)


def test_a_number_outside_the_table_fails() -> None:
    checks = crisis_checks("I think about suicide every day.", "Call 1-800-555-0199, the hotline.")
    assert any(check.question == 14 and check.passed is False and "0199" in check.why for check in checks)


def test_a_disorder_that_the_client_named_is_no_diagnosis() -> None:
    assert "diagnosis" not in read_reply("I have OCD.", "You have OCD, and it is a bad week.").faults
    assert "diagnosis" in read_reply("I wash my hands a lot.", "You have OCD.").faults


def test_levels_have_an_order() -> None:
    assert Level.NONE < Level.PASSIVE < Level.ACTIVE < Level.PLAN < Level.IMMINENT
