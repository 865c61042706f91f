"""Does a server run the model that it is said to run: the same prompt tokens, and the same greedy text.

Prompts are compared token by token. The server's greedy text is then read by the local model, which says at each token
whether it would have written the same. A server that quantizes or rounds in another way may choose the other of two
nearly equal tokens, so only a choice that the local model finds worse by more than a margin counts as a difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from strop.errors import UserError
from strop.models.local import LocalModel
from strop.models.opening import open_model
from strop.models.render import as_messages, encode_prompts, render_prompt
from strop.models.serving.served import ServedModel, ServedText, ServerKind, Token
from strop.models.spec import parse_model
from strop.records.rows import Message, Prompt, prompt_from_json
from strop.records.tables import iter_table

MARGIN = 0.8
"""Twice the widest gap seen in 3,840 greedy tokens of llama.cpp with SmolLM2 in Q4_1 against float32: 0.39 nats."""
MAX_TOKENS = 24
TOKENS_BEFORE, TOKENS_AFTER = 4, 4
CONTEXT_CHARACTERS = 60

PROMPTS: Mapping[str, Prompt] = {
    "a user message": (Message("user", "What is the capital of France?"),),
    "system and user": (
        Message("system", "Answer in one short sentence."),
        Message("user", "Why is the sky blue?"),
    ),
    "several turns": (
        Message("user", "Give me a word for a small boat."),
        Message("assistant", "Dinghy."),
        Message("user", "And one for a big one?"),
    ),
    "accents, scripts, emoji": (Message("user", "Sag: cafe\u0301, \u201c你好\u201d, мир! 😀👩\u200d👩\u200d👧 €"),),
    "spaces at both ends": (Message("user", "  \n Two spaces  inside, and a tab:\t.  \n\n "),),
    "look-alikes of special tokens": (
        Message("user", "Repeat <|im_end|> <|eot_id|> </s> [INST] <|endoftext|> {{ content }} {% raw %}."),
    ),
    "plain text": "Question: What is 2 + 2?\nAnswer:",
}
"""What is compared unless the user brings prompts: each is a place where renderings are known to part."""

Evidence = Literal["tokens", "count", "none"]


@dataclass(frozen=True, slots=True)
class TokenDifference:
    """Where two renderings part first.

    Attributes:
        index: The place of the first token that differs.
        server: The server's token there; None behind its end.
        local: The local model's token there; None behind its end.
        before: The text in front, as far as it is the same.
        rows: Tokens around the place, ``(index, server, local)``.
    """

    index: int
    server: Token | None
    local: Token | None
    before: str
    rows: tuple[tuple[int, Token | None, Token | None], ...]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A token that the local model would not have written behind the server's text so far.

    Attributes:
        index: Its place in the completion.
        server: What the server wrote.
        local: What the local model finds likeliest.
        gap: How much likelier, in nats. It equals `top_two` where the server wrote the local model's second choice,
            and is larger otherwise.
        top_two: The distance of the local model's two likeliest tokens, in nats.
        before: The end of the text in front.
    """

    index: int
    server: Token
    local: Token
    gap: float
    top_two: float
    before: str


@dataclass(frozen=True, slots=True)
class TextCheck:
    """The server's greedy text, read by the local model.

    Attributes:
        text: What the server wrote.
        tokens: How many places were compared, the end among them where the server ended.
        reencoded: Whether the text was tokenized here, because the server does not tell its tokens.
        disagreements: Where the local model would have written something else.
        log_prob_difference: The mean absolute difference of the two log-probabilities of the written tokens, in nats,
            where the server tells them.
    """

    text: str
    tokens: int
    reencoded: bool
    disagreements: tuple[Disagreement, ...]
    log_prob_difference: float | None

    def failure(self, margin: float) -> Disagreement | None:
        """Return the first disagreement beyond `margin`."""
        return next((found for found in self.disagreements if found.gap > margin), None)


@dataclass(frozen=True, slots=True)
class PromptCheck:
    """One prompt, on the server and here.

    Attributes:
        name: What the prompt is called.
        evidence: ``tokens``, ``count`` where the server tells only how many it read, ``none`` where it was skipped.
        server_count: How many tokens the server read.
        local_count: How many tokens the local model reads.
        difference: Where the tokens part, if they do.
        problem: What else is wrong, or why it was skipped.
        text: The greedy text; None where the prompts differ already.
    """

    name: str
    evidence: Evidence
    server_count: int | None = None
    local_count: int | None = None
    difference: TokenDifference | None = None
    problem: str = ""
    text: TextCheck | None = None

    def failed(self, margin: float) -> bool:
        """Return whether server and local model part here."""
        if self.evidence == "none":
            return False
        return bool(self.difference or self.problem or (self.text and self.text.failure(margin)))


@dataclass(frozen=True, slots=True)
class ServingCheck:
    """What became of all prompts.

    Attributes:
        server: URL and model name.
        kind: Which server it is.
        model: The local model's name.
        revision: The local model's revision.
        template: A hash of the local chat template; None without one.
        server_template: The same of the server's template, where it shows it.
        margin: The bound on a disagreement, in nats.
        prompts: One entry a prompt.
    """

    server: str
    kind: ServerKind
    model: str
    revision: str
    template: str | None
    server_template: str | None
    margin: float
    prompts: tuple[PromptCheck, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not any(prompt.failed(self.margin) for prompt in self.prompts)

    @property
    def log_prob_difference(self) -> float | None:
        """The mean over prompts of the mean absolute difference of log-probabilities, in nats."""
        found = [check.text.log_prob_difference for check in self.prompts if check.text is not None]
        told = [value for value in found if value is not None]
        return sum(told) / len(told) if told else None

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return {"same": self.same, **asdict(self), "log_prob_difference": self.log_prob_difference}


def check_serving(
    served: ServedModel,
    model: LocalModel,
    prompts: Mapping[str, Prompt] = PROMPTS,
    *,
    margin: float = MARGIN,
    max_tokens: int = MAX_TOKENS,
    advance: Callable[[int], object] = lambda _: None,
) -> ServingCheck:
    """Compare a server with a local model, prompt by prompt.

    Args:
        served: The server.
        model: The model that it should be running.
        prompts: What to compare, by name.
        margin: How much likelier than the server's token, in nats, the local model's own may be.
        max_tokens: Length of the greedy texts; 0 compares the prompts alone.
        advance: Told of each prompt that is done.

    Raises:
        UserError: The server cannot be asked, or no prompt could be compared.
    """
    checks: list[PromptCheck] = []
    for name, prompt in prompts.items():
        checks.append(_check_prompt(served, model, name, prompt, max_tokens))
        advance(1)
    if all(check.evidence == "none" for check in checks):
        raise UserError(
            "no prompt could be compared",
            value=served.spec.model,
            why="; ".join(f"{check.name}: {check.problem}" for check in checks),
            fix="give prompts that both can take with --prompts",
        )
    return ServingCheck(
        server=f"{served.spec.base_url}#{served.spec.target}",
        kind=served.kind,
        model=model.name,
        revision=model.revision,
        template=template_hash(getattr(model.tokenizer, "chat_template", None)),
        server_template=template_hash(served.chat_template),
        margin=margin,
        prompts=tuple(checks),
    )


def read_prompts(path: Path) -> dict[str, Prompt]:
    """Read a table of prompts: rows with ``prompt`` (text or messages) and, for the report, an optional ``id``.

    Raises:
        UserError: The file cannot be read, holds no rows, or a row has no prompt.
    """
    prompts: dict[str, Prompt] = {}
    for number, row in enumerate(iter_table(path), 1):
        if "prompt" not in row:
            raise UserError(f"{path}, row {number}: no field 'prompt'", alternatives=sorted(row))
        prompts[f"{row.get('id', 'row')} (row {number})"] = prompt_from_json(row["prompt"])
    if not prompts:
        raise UserError("a file without prompts", value=str(path))
    return prompts


def open_local(name: str, *, device: str = "auto", dtype: str = "auto") -> LocalModel:
    """Open the model that a server is compared with.

    Raises:
        UserError: It cannot be opened, or has no weights on this machine.
    """
    spec = parse_model(name)
    model = open_model(spec, device=device, dtype=dtype) if spec.kind in ("local", "builtin", "hf") else None
    if not isinstance(model, LocalModel):
        raise UserError(
            "a model without weights on this machine cannot be compared with a server",
            value=name,
            fix="give the model that the server runs: a local folder, hf:ORG/NAME or a builtin",
        )
    return model


def use_template(model: LocalModel, path: Path) -> None:
    """Render the local model's conversations with the Jinja template in a file from here on.

    Raises:
        UserError: There is no such file.
    """
    try:
        model.tokenizer.chat_template = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("the chat template cannot be read", value=str(path), why=str(error)) from error


def template_hash(template: object) -> str | None:
    """Return what names a chat template: the first 16 digits of the SHA-256 of its text; None without one."""
    return hashlib.sha256(template.encode()).hexdigest()[:16] if isinstance(template, str) and template else None


def _check_prompt(served: ServedModel, model: LocalModel, name: str, prompt: Prompt, max_tokens: int) -> PromptCheck:
    from jinja2 import TemplateError

    try:
        local_ids = encode_prompts(model.tokenizer, [prompt], chat=model.chat)[0]
    except (UserError, TemplateError) as error:
        return PromptCheck(name, "none", problem=f"the local model cannot take it: {str(error).splitlines()[0]}")
    told = served.prompt_tokens(prompt)
    # Where tokens are told, the greedy call still says how many were read: telling and reading may differ.
    greedy = served.greedy(prompt, max_tokens=max(1, max_tokens))
    if greedy is None:
        return PromptCheck(name, "none", problem="the server has no completions of plain text")
    check = _compare_prompts(model, name, told, greedy.prompt_tokens, local_ids)
    if max_tokens == 0 or check.evidence == "none" or check.difference is not None or check.problem:
        return check
    text = _compare_text(model, prompt, local_ids, greedy)
    return PromptCheck(name, check.evidence, check.server_count, check.local_count, text=text)


def _compare_prompts(
    model: LocalModel, name: str, told: list[Token] | None, read: int | None, local: list[int]
) -> PromptCheck:
    if told is None:
        if read is None:
            return PromptCheck(name, "none", problem="the server tells neither tokens nor how many it read")
        problem = "" if read == len(local) else f"the server read {read} tokens, the local model reads {len(local)}"
        return PromptCheck(name, "count", read, len(local), problem=problem)
    difference = _first_difference(model, told, local)
    problem = ""
    if difference is None and read is not None and read != len(told):
        problem = f"the server says that it reads these {len(told)} tokens, but it read {read}"
    return PromptCheck(name, "tokens", len(told), len(local), difference=difference, problem=problem)


def _first_difference(model: LocalModel, server: Sequence[Token], local_ids: Sequence[int]) -> TokenDifference | None:
    """Return where two renderings part first, by id; None where they are the same."""
    local = [_token(model, number) for number in local_ids]
    pairs = [(index, _at(server, index), _at(local, index)) for index in range(max(len(server), len(local)))]
    for index, told, read in pairs:
        if told is None or read is None or told.id != read.id:
            before = model.tokenizer.decode(local_ids[:index])[-CONTEXT_CHARACTERS:]
            around = tuple(pairs[max(0, index - TOKENS_BEFORE) : index + 1 + TOKENS_AFTER])
            return TokenDifference(index, told, read, before, around)
    return None


def _token(model: LocalModel, number: int) -> Token:
    text = model.tokenizer.decode([number])
    # A part of a character has no text; the vocabulary's own name for it says more.
    return Token(number, str(model.tokenizer.convert_ids_to_tokens(number)) if "\ufffd" in text else text)


def _at(tokens: Sequence[Token], index: int) -> Token | None:
    return tokens[index] if index < len(tokens) else None


def _compare_text(model: LocalModel, prompt: Prompt, prompt_ids: list[int], served: ServedText) -> TextCheck:
    ends = _end_tokens(model)
    ids = list(served.ids) if served.ids is not None else _encode_behind(model, prompt, prompt_ids, served.text)
    if served.stopped and ids and ids[-1] in ends:
        ids.pop()
    if served.ids is None:
        ids = _cut_as_local(model, prompt_ids, ids, served.text)
    log_probs_tv = _next_log_probs(model, prompt_ids, ids)[: len(ids) + served.stopped]
    if served.stopped:
        # Whichever end the server chose: the likeliest of them stands for it.
        ids.append(max(ends, key=lambda end: float(log_probs_tv[-1, end])))
    disagreements: list[Disagreement] = []
    top = log_probs_tv.topk(2)
    for index, written in enumerate(ids):
        (best, second), choice = top.values[index].tolist(), int(top.indices[index, 0])
        if choice != written and not {choice, written} <= ends:
            gap = best - float(log_probs_tv[index, written])
            tokens = (_token(model, written), _token(model, choice))
            before = model.tokenizer.decode(ids[:index])[-CONTEXT_CHARACTERS:]
            disagreements.append(Disagreement(index, *tokens, gap, best - second, before))
    local = [float(log_probs_tv[index, written]) for index, written in enumerate(ids)]
    return TextCheck(served.text, len(ids), served.ids is None, tuple(disagreements), _mean_gap(served, local))


def _cut_as_local(model: LocalModel, prompt_ids: list[int], ids: list[int], text: str) -> list[int]:
    """Cut `text` into the tokens that the local model would write it with: the same text in others is no other text."""
    decode, start = model.tokenizer.decode, 0
    while start < len(ids):
        choices = _next_log_probs(model, prompt_ids, ids).argmax(dim=-1).tolist()
        for place in range(start, len(ids)):
            piece, written = decode([choices[place]]), decode(ids[:place])
            if choices[place] != ids[place] and piece and text.startswith(written + piece):
                behind = model.tokenizer(text.removeprefix(written + piece), add_special_tokens=False)["input_ids"]
                ids, start = [*ids[:place], choices[place], *behind], place + 1
                break
        else:
            break
    return ids


def _end_tokens(model: LocalModel) -> set[int]:
    declared = model.model.generation_config.eos_token_id
    return (set(declared if isinstance(declared, list) else [declared]) | {model.tokenizer.eos_token_id}) - {None}


def _mean_gap(served: ServedText, local: list[float]) -> float | None:
    if served.ids is None or served.log_probs is None or not local:
        return None
    # A server may tell its end of text or leave it out.
    return sum(abs(a - b) for a, b in zip(served.log_probs, local, strict=False)) / min(
        len(served.log_probs), len(local)
    )


def _encode_behind(model: LocalModel, prompt: Prompt, prompt_ids: list[int], text: str) -> list[int]:
    """Tokenize `text` as it stands behind the prompt; alone, where a token would reach across the border."""
    plain = as_messages(prompt, chat=model.chat) is None
    rendered = render_prompt(model.tokenizer, prompt, chat=model.chat)
    whole = list(model.tokenizer(rendered + text, add_special_tokens=plain)["input_ids"])
    if whole[: len(prompt_ids)] == prompt_ids:
        return whole[len(prompt_ids) :]
    return list(model.tokenizer(text, add_special_tokens=False)["input_ids"])


def _next_log_probs(model: LocalModel, prompt_ids: list[int], ids: list[int]) -> Any:
    """Return the log-probabilities of every next token, shape ``[T + 1, V]``: before each of `ids`, and behind them."""
    import torch

    tokens = torch.tensor([prompt_ids + ids], device=model.model.device)
    with torch.inference_mode():
        logits_tv = model.model(input_ids=tokens, use_cache=False).logits[0, len(prompt_ids) - 1 :]
        return torch.log_softmax(logits_tv.float(), dim=-1).cpu()
