"""What a `ServingCheck` found, as lines for people: one for each prompt, and the two sides where they part."""

from __future__ import annotations

from collections.abc import Iterator

from strop.models.serving.served import Token
from strop.models.serving.serving_check import Disagreement, PromptCheck, ServingCheck, TokenDifference

COLUMN = 30
EVIDENCE = {
    "llama.cpp": "prompt tokens as the server renders and tokenizes them (/apply-template, /tokenize)",
    "vllm": "prompt tokens as the server renders and tokenizes them (/tokenize)",
    "other": "only how many prompt tokens the server read: weaker, equal counts do not prove equal tokens",
}


def lines_of(check: ServingCheck) -> Iterator[str]:
    """Yield the lines."""
    yield f"server: {check.server}"
    yield f"  compared: {EVIDENCE[check.kind]}"
    yield f"local model: {check.model} ({check.revision[:16]})"
    yield f"  chat template: {_template(check)}"
    for prompt in check.prompts:
        yield from _prompt_lines(prompt, check.margin)
    if check.log_prob_difference is not None:
        yield f"log-probabilities differ by {check.log_prob_difference:.3f} nats on average"
    skipped = sum(prompt.evidence == "none" for prompt in check.prompts)
    compared = len(check.prompts) - skipped
    yield f"{compared} prompts compared, {skipped} skipped: {'the same' if check.same else verdict(check)}"


def verdict(check: ServingCheck) -> str:
    """Return the first difference in one sentence, or that there is none."""
    for prompt in check.prompts:
        if prompt.failed(check.margin):
            return f"{prompt.name}: {_what_differs(prompt, check.margin)}"
    return "server and local model are the same"


def _template(check: ServingCheck) -> str:
    if check.template is None:
        return "none"
    if check.server_template is None:
        return f"sha256 {check.template}"
    same = check.template == check.server_template
    return f"sha256 {check.template}; the server's: {'the same' if same else check.server_template}"


def _prompt_lines(prompt: PromptCheck, margin: float) -> Iterator[str]:
    if prompt.evidence == "none":
        yield f"- {prompt.name}: skipped, {prompt.problem}"
        return
    if not prompt.failed(margin):
        yield f"+ {prompt.name}: {prompt.local_count} prompt tokens{_text_summary(prompt)}"
        return
    yield f"x {prompt.name}: {_what_differs(prompt, margin)}"
    if prompt.difference is not None:
        yield from _side_by_side(prompt.difference)
    failure = None if prompt.text is None else prompt.text.failure(margin)
    if failure is not None:
        yield f"    behind: {failure.before!r}"


def _text_summary(prompt: PromptCheck) -> str:
    text = prompt.text
    if text is None:
        return ""
    summary = f"; {text.tokens} tokens of greedy text"
    if not text.disagreements:
        return f"{summary} equal"
    widest = max(found.gap for found in text.disagreements)
    return f"{summary}, {len(text.disagreements)} differ within rounding (at most {widest:.3f} nats)"


def _what_differs(prompt: PromptCheck, margin: float) -> str:
    difference = prompt.difference
    if difference is not None:
        return (
            f"prompt tokens differ at index {difference.index}: server {_token(difference.server)}, "
            f"local {_token(difference.local)}, behind {difference.before!r}"
        )
    failure: Disagreement | None = prompt.text.failure(margin) if prompt.text is not None else None
    if failure is not None:
        return (
            f"greedy text differs at token {failure.index}: server {_token(failure.server)}, "
            f"local {_token(failure.local)}, likelier by {failure.gap:.3f} nats (bound {margin:g}; "
            f"its top two are {failure.top_two:.3f} apart)"
        )
    return prompt.problem


def _side_by_side(difference: TokenDifference) -> Iterator[str]:
    yield f"    {'':>7} {'server':<{COLUMN}} local"
    for index, server, local in difference.rows:
        mark = ">" if index == difference.index else " "
        yield f"    {mark}{index:>6} {_token(server):<{COLUMN}} {_token(local)}"


def _token(token: Token | None) -> str:
    return "(end)" if token is None else f"{token.id} {token.text!r}"
