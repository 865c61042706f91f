"""A literal, slow reading of the published extraction and normalisation rules: the oracle of the fast one.

Written from the rules' description (specification of the method), one statement a rule, with no shortcut. It is also
the "plain Python" that the benchmark compares with.
"""

from __future__ import annotations

import re

REPLACED = [
    ("an ", ""), ("a ", ""), (".$", "$"), (r"\$", ""), ("\\ ", ""), (r"\%", "%"), (" ", ""), ("mbox", "text"),
    (r",\text{and}", ","), (r"\text{and}", ","), (r"\text{m}", r"\text{}"),
]  # fmt: skip
DELETED = [
    "square",
    "ways",
    "integers",
    "dollars",
    "mph",
    "inches",
    "ft",
    "hours",
    "km",
    "units",
    "\\ldots",
    "sue",
    "points",
    "feet",
    "minutes",
    "digits",
    "cents",
    "degrees",
    "cm",
    "gm",
    "pounds",
    "meters",
    "meals",
    "edges",
    "students",
    "childrentickets",
    "multiples",
    "\\text{s}",
    "\\text{.}",
    "\\text{LINEs}",
    "\\text{}^2",
    "\\text{}^3",
    "\\text{LINE}",
    "\\text{}",
    "\\mathrm{th}",
    "^\\circ",
    "^{\\circ}",
    "\\;",
    ",\\!",
    "{,}",
    '"',
    "\\dots",
]


def reference_normalise(answer: str) -> str:
    answer = answer.rsplit("=", maxsplit=1)[-1]
    for old, new in REPLACED:
        answer = answer.replace(old, new)
    for old in DELETED:
        answer = answer.replace(old.replace("LINE", "\n"), "")
    answer = re.sub(r".*?\$(.*?)\$.*", lambda match: f"${match[1]}$", answer)
    for command in ("text", "textbf", "overline"):
        answer = re.sub(r"\\" + command + r"\{(.*?)\}", lambda match: match[1], answer)
    answer = re.sub(r"\\boxed\{(.*)\}", lambda match: match[1], answer)
    answer = re.sub(r"frac([^{])(.)", lambda match: f"frac{{{match[1]}}}{{{match[2]}}}", answer)
    answer = re.sub(r"sqrt([^{])", lambda match: f"sqrt{{{match[1]}}}", answer)
    answer = answer.replace("$", "")
    if answer.replace(",", "").isdigit():
        answer = answer.replace(",", "")
    if answer.endswith(".0") and answer[:-2].isdigit():
        answer = answer[:-2]
    if answer.endswith(".00") and answer[:-3].isdigit():
        answer = answer[:-3]
    if answer.endswith("%") and answer[:-1].isdigit():
        answer = answer[:-1]
    if answer.lower() in ("a", "b", "c", "d", "e", "f", "g"):
        answer = answer.lower()
    return answer


def reference_extract(response: str, key: str) -> str:
    text = response.split("Question", maxsplit=1)[0].strip()
    found = re.findall(re.escape(key) + " (.*)$", text)
    answer = found[-1] if found else ""
    if answer == "":
        found = re.findall("The answer is (.*)$", text)
        numbers = re.findall(r"-?\d+\.?\d*", found[-1].replace(",", "")) if found else []
        answer = numbers[0] if numbers else ""
        if answer.endswith("."):
            answer = answer[:-1]
    if "</s>" in answer:
        answer = answer[:-4]
    return reference_normalise(answer)
