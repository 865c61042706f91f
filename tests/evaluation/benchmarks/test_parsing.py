"""Replies to lettered options and to yes, no, maybe: tables of what is read, and of what must not be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.evaluation.benchmarks.items import VERDICTS
from strop.evaluation.benchmarks.parsing import leading_verdict, read_choice, read_verdict

OPTIONS = {"A": "Haloperidol", "B": "Bromocriptine", "C": "Fluphenazine", "D": "Risperidone"}

SAYS_B = [
    *("B", "b", "(B)", "**B**", "B.", " B\n", "'B'", "[B]", "`B`", "__B__", "\u200bB\u200b", "\uff22"),
    *("B) Bromocriptine", "B: Bromocriptine", "b. bromocriptine", "**B.** Bromocriptine", "(B) Bromocriptine"),
    *("The answer is B", "The answer is B.", "the answer is (b).", "Answer: B", "**Answer:** B", "Answer:\nB"),
    *("The correct option is: **B**", "The correct option is B.", "The answer is: B. Bromocriptine", "Option B"),
    *("I think option B is correct", "B is the correct answer.", "The best choice would be B", "I choose B."),
    *("The answer is not A. The answer is B.", "The answer is B, because A is wrong", "Answer = B"),
    *("It is **B. Bromocriptine**, a dopamine agonist.", "So we have \\boxed{B}", "Prolactin falls, hence (B)."),
    *("Bromocriptine", "bromocriptine.", '"Bromocriptine"', "The correct answer is Bromocriptine."),
    *("Option A is wrong. The answer is B", "\u201cB\u201d", "Final answer B"),
]
SAYS_NOTHING = [
    *("", "   ", "\n", ".", "**", "E", "AB", "ABCD", "A B C D"),
    *("A. Haloperidol\nB. Bromocriptine\nC. Fluphenazine\nD. Risperidone", "A or B", "A and B", "A, B", "Both A and C"),
    *("Answer: A or B", "The answer is A/B", "The answer is A. The answer is B.", "(A) and (B) are both possible"),
    *("the answer is a drug", "The answer is A drug", "A drug like bromocriptine", "I don't know", "Be careful."),
    *("Because of the dopamine", "D-dimers are high", "Can you repeat the question?", "Dopamine", "None of them"),
    *("Haloperidol and Bromocriptine", "Bromocriptine or Haloperidol?", "brom", "I cannot answer that."),
    *("As a large language model, I cannot give medical advice.", "Vitamin B deficiency", "hepatitis B"),
    *("Hepatitis B is the correct diagnosis", "Vitamin D is the best choice", "The answer is B-cell lymphoma"),
]


@pytest.mark.parametrize("reply", SAYS_B)
def test_a_choice_is_read(reply: str) -> None:
    assert read_choice(reply, OPTIONS) == "B"


@pytest.mark.parametrize("reply", SAYS_NOTHING)
def test_no_choice_is_read_into_a_reply(reply: str) -> None:
    assert read_choice(reply, OPTIONS) is None


def test_an_option_text_that_occurs_twice_names_none() -> None:
    assert read_choice("same", {"A": "same", "B": "Same", "C": "other"}) is None
    assert read_choice("other", {"A": "same", "B": "Same", "C": "other"}) == "C"


def test_a_text_that_looks_like_a_letter_is_the_text() -> None:
    options = {"A": "C. difficile", "B": "E. coli", "C": "S. aureus"}
    assert [read_choice(reply, options) for reply in ("C. difficile", "The answer is C. difficile.")] == ["A", "A"]
    assert [read_choice(reply, options) for reply in ("C. S. aureus", "C.", "The answer is C.")] == ["C", "C", "C"]


@pytest.mark.parametrize("filler", [" ", "\n", "*", "(", "answer is ", "A, ", "Yes, "])
def test_a_reply_of_one_thing_over_and_over_is_read_in_time(filler: str) -> None:
    reply = "The answer is" + filler * 20_000
    assert read_choice(reply, OPTIONS) == ("A" if filler == "A, " else None)
    assert read_verdict(reply, VERDICTS) == ("yes" if filler == "Yes, " else None)


def test_an_option_that_is_a_letter_is_the_letter() -> None:
    """Options may be letters themselves (blood groups): the label comes first in the order of reading."""
    assert read_choice("A", {"A": "B", "B": "A"}) == "A"


@pytest.mark.parametrize(("letters", "reply"), [(2, "C"), (3, "D."), (4, "The answer is E")])
def test_a_letter_that_was_not_offered_is_no_answer(letters: int, reply: str) -> None:
    assert read_choice(reply, {letter: f"option {letter}" for letter in "ABCD"[:letters]}) is None


@given(st.text(), st.dictionaries(st.sampled_from("ABCD"), st.text(min_size=1), min_size=2))
def test_any_text_gives_an_offered_letter_or_none(reply: str, given_options: dict[str, str]) -> None:
    options = {letter: given_options[letter] for letter in sorted(given_options)}
    assert read_choice(reply, options) in {*options, None}


@given(st.sampled_from("ABCD"), st.sampled_from(["{}", " {}", "({})", "**{}**", "{}.", "Answer: {}", "{}) text"]))
def test_every_letter_is_read_in_every_form(letter: str, form: str) -> None:
    assert read_choice(form.format(letter), OPTIONS) == letter


@given(
    st.lists(st.sampled_from(["know", "not", "another", "drug", "abdomen", "cab", "dad", "bad", "i", "a"]), min_size=2)
)
def test_letters_inside_words_are_no_answer(words: list[str]) -> None:
    assert read_choice(" ".join(words), OPTIONS) is None


VERDICT_TABLE = [
    *(
        (reply, "yes")
        for reply in ("Yes", "yes.", "**Yes**", "Yes, it does.", "Yes, no difference was found", "YES!", "Yes, yes.")
    ),
    *(
        (reply, "no")
        for reply in ("No", "no.", "No, no evidence was found.", "no the drug is safe", "The answer is no.")
    ),
    *((reply, "maybe") for reply in ("Maybe", "maybe.", "The answer is maybe", "(Maybe)", "Answer: maybe")),
    ("There is no evidence.\n\nNo.", "no"),
    ("The trial was small.\n**Yes**", "yes"),
    *((reply, None) for reply in ("", " ", "not", "I know", "I do not know", "Nope", "Yesterday", "no-one", "nobody")),
    *((reply, None) for reply in ("yes or no", "Yes/No", "Yes, No or Maybe", "The answer is yes or no", "yes and no")),
    *(
        (reply, None)
        for reply in ("No evidence was found", "No difference", "There is no difference", "It says yes here.")
    ),
    *((reply, None) for reply in ("I cannot answer.", "unknown", "noon", "The answer is yes. The answer is no.")),
]


@pytest.mark.parametrize(("reply", "label"), VERDICT_TABLE)
def test_verdicts(reply: str, label: str | None) -> None:
    assert read_verdict(reply, VERDICTS) == label


@given(st.text())
def test_any_text_gives_a_verdict_or_none(reply: str) -> None:
    assert read_verdict(reply, VERDICTS) in {*VERDICTS, None}
    assert leading_verdict(reply, VERDICTS) in {*VERDICTS, None}


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=4))
def test_no_verdict_inside_a_word(word: str) -> None:
    assert read_verdict(word, ("yes", "no")) is None
