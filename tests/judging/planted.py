"""Pairs with a planted signal: the better response asks an open question, the worse one a closed one."""

from __future__ import annotations

from random import Random

from strop.judging.pairs import HumanPair

FILLER = """
i you we they feel think know need talk help sad angry alone work home family friend day night life
"""


def planted_pairs(count: int, *, groups: int = 20, shuffled: bool = False, seed: int = 0) -> list[HumanPair]:
    """Return pairs of equal length whose better side holds "what" and "how", or is chosen by a coin."""
    random = Random(seed)

    def text(*marks: str) -> str:
        words = random.choices(FILLER.split(), k=10) + list(marks)
        random.shuffle(words)
        return " ".join(words) + f" r{random.randrange(10**9)}"

    pairs = []
    for number in range(count):
        better, worse = text("what", "how"), text("must", "should")
        if shuffled and random.random() < 0.5:
            better, worse = worse, better
        prompt = f"{text()} p{number}"
        pairs.append(HumanPair(number, prompt, better, worse, f"g{number % groups}", "planted", None, True, False))
    return pairs
