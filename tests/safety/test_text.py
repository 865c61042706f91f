"""The plain form of a text, and what undoes disguises and typing errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.safety.patterns import read_patterns
from strop.safety.text import plain_form, typing_errors


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("I DON'T know", " i do not know "),
        ("I don\N{RIGHT SINGLE QUOTATION MARK}t", " i do not "),
        ("He's here. Is she?", " he is here . is she ? "),
        ("Größe, Über-Ich", " grosse uber ich "),
        ("a\N{ZERO WIDTH SPACE}b", " ab "),
        ("自杀", " 自 杀 "),
        ("", "  "),
    ],
)
def test_plain_form(text: str, plain: str) -> None:
    assert plain_form(text, {}) == plain


def test_spellings_are_replaced() -> None:
    assert plain_form("im ok", {"im": "i am"}) == " i am ok "


@pytest.mark.parametrize(
    "disguised",
    [
        "k i l l myself",
        "k.i.l.l m.y.s.e.l.f",
        "k-i-l-l  m-y-s-e-l-f",
        "ki11 mys3lf",
        "k!ll myself",
        "k*ll myself",
        "kiiiilll myself",
        "killmyself",
        "\N{CYRILLIC SMALL LETTER KA}ill mys\N{CYRILLIC SMALL LETTER IE}lf",
        "\N{FULLWIDTH LATIN SMALL LETTER K}ill myself",
        "ki\N{ZERO WIDTH NON-JOINER}ll my\N{SOFT HYPHEN}self",
        "kil mysefl",
        "KILL\tMYSELF",
    ],
)
def test_disguises_are_undone(disguised: str) -> None:
    assert " kill myself " in read_patterns().respelling(disguised)


@pytest.mark.parametrize("word", ["bride", "knives", "pile", "live", "dye", "skill", "bred"])
def test_english_words_are_left_as_they_are(word: str) -> None:
    assert read_patterns().respelling(word) == f" {word} "


@pytest.mark.parametrize(
    ("typed", "word", "errors"),
    [("kil", "kill", 1), ("mysefl", "myself", 1), ("brigdes", "bridges", 1), ("tabeltts", "tablets", 2), ("a", "b", 1)],
)
def test_typing_errors(typed: str, word: str, errors: int) -> None:
    assert typing_errors(typed, word, 2)[0] == errors


@given(st.text(alphabet="abcd", max_size=7), st.text(alphabet="abcd", max_size=7))
def test_typing_errors_are_symmetric_and_zero_only_for_equal_words(left: str, right: str) -> None:
    there, back = typing_errors(left, right, 20)[0], typing_errors(right, left, 20)[0]
    assert there == back
    assert (there == 0) is (left == right)
    assert abs(len(left) - len(right)) <= there <= max(len(left), len(right))


@given(st.text(max_size=300))
def test_any_text_has_a_plain_form_that_is_stable(text: str) -> None:
    plain = plain_form(text, {})
    assert plain_form(plain, {}) == plain
    read_patterns().respelling(text)
