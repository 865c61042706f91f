"""A tokenizer as llama.cpp reads it: byte-level pair merging, cut as one of those that llama.cpp knows by name.

A tokenizer that llama.cpp would read in another way is refused: the file would give the model other tokens than it has
learned.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.errors import UserError

GPT2_REGEX = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CUTS: Mapping[tuple[str, ...], str] = {
    (GPT2_REGEX,): "gpt-2",
    ("digits", GPT2_REGEX): "smollm",
    (LLAMA3_REGEX, "bytes"): "llama-bpe",
    (QWEN2_REGEX, "bytes"): "qwen2",
}
"""How a tokenizer cuts text before merging, and llama.cpp's name for it."""
WHOLE_WORDS = ("llama-bpe",)
"""Cuts under which llama.cpp takes a piece that is a token without merging it."""
PROBE = "a"
FIX = "use llama.cpp's own converter on the safetensors folder"


@dataclass(frozen=True, slots=True)
class _Ends:
    """What stands around a text.

    Attributes:
        start: Whether the tokenizer puts a start token before it.
        end: Whether it puts an end token behind it.
        chat_start: Whether a conversation begins with the start token; None without a chat template.
    """

    start: bool
    end: bool
    chat_start: bool | None

    @property
    def written(self) -> dict[str, bool]:
        """What llama.cpp is told: it has one rule for text and conversations, and the latter decide."""
        return {"bos": self.start and self.chat_start is not False, "eos": self.end}


def check_vocabulary(folder: Path, vocabulary: int) -> tuple[str, ...]:
    """Make sure that llama.cpp would read text as the folder's tokenizer does.

    Args:
        folder: A model folder.
        vocabulary: Rows of the model's embedding.

    Returns:
        What llama.cpp does otherwise, a sentence each.

    Raises:
        UserError: It would read other tokens.
    """
    told = _tokenizer(folder)
    model = told["model"]
    normalizer = (told.get("normalizer") or {}).get("type")
    if model["type"] != "BPE" or normalizer not in (None, "NFC") or model.get("byte_fallback"):
        raise UserError(
            "this tokenizer cannot be written as GGUF",
            value=f"{model['type']}, normalizer {normalizer or 'none'}",
            why="only byte-level pair merging is checked",
            fix=FIX if model["type"] in ("BPE", "Unigram") else "serve the safetensors folder itself",
        )
    cut = cut_of(told)
    _check_merging(model, cut)
    _check_added(told, vocabulary)
    ends = _ends(folder)
    notes = []
    if composes_accents(folder):
        notes.append("The tokenizer composes accents (NFC) before it reads and llama.cpp does not: send composed text.")
    if ends.start and not ends.written["bos"]:
        notes.append("llama.cpp reads plain text without the tokenizer's start token, which conversations do not have.")
    return tuple(notes)


def composes_accents(folder: Path) -> bool:
    """Say whether a folder's tokenizer composes accents before it reads, which llama.cpp does not."""
    return (_tokenizer(folder).get("normalizer") or {}).get("type") == "NFC"


def add_vocabulary(writer: Any, folder: Path, vocabulary: int) -> None:
    """Write the tokenizer and the chat template of a folder that `check_vocabulary` accepts.

    Args:
        writer: A ``gguf.GGUFWriter``.
        folder: A model folder.
        vocabulary: Rows of the model's embedding.
    """
    import gguf

    told = _tokenizer(folder)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut_of(told))
    tokens, types = _tokens(told, vocabulary)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    special = gguf.SpecialVocab(folder, load_merges=True, n_vocab=vocabulary)
    # Told in every case: without it llama.cpp goes by the name of the cut.
    special.add_special_token = _ends(folder).written
    special.add_to_gguf(writer, quiet=True)
    writer.add_add_space_prefix(False)
    template = folder / "chat_template.jinja"
    if template.is_file() and special.chat_template is None:
        writer.add_chat_template(template.read_text(encoding="utf-8"))


def cut_of(tokenizer: Mapping[str, Any]) -> str:
    """Return llama.cpp's name for how a ``tokenizer.json`` cuts text before it merges.

    Raises:
        UserError: It is none of those that are known.
    """
    told = tokenizer.get("pre_tokenizer") or {}
    steps = told.get("pretokenizers", [told])
    cut = tuple(_cuts(steps))
    if cut not in CUTS:
        raise UserError(
            "llama.cpp has no name for how this tokenizer cuts text",
            value=[step.get("type") for step in steps],
            why="with another cut the file would read other tokens than the model has learned",
            fix=FIX,
            alternatives=sorted(CUTS.values()),
        )
    return CUTS[cut]


def _cuts(steps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for step in steps:
        match step.get("type"):
            case "Digits" if step.get("individual_digits"):
                yield "digits"
            case "Split" if step.get("behavior") == "Isolated" and not step.get("invert"):
                yield str(step["pattern"].get("Regex"))
            case "ByteLevel" if not step.get("add_prefix_space"):
                yield GPT2_REGEX if step.get("use_regex", True) else "bytes"
            case other:
                yield f"unknown: {other}"


def _tokenizer(folder: Path) -> dict[str, Any]:
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UserError("no tokenizer.json to write into the GGUF file", value=str(folder), fix=FIX)
    told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return told


def _refused(what: str, value: object, why: str) -> UserError:
    return UserError(what, value=value, why=why, fix=FIX)


def _check_merging(model: Mapping[str, Any], cut: str) -> None:
    whole = cut in WHOLE_WORDS
    expected: dict[str, Any] = {"ignore_merges": whole, "dropout": None, "fuse_unk": False}
    expected |= dict.fromkeys(("continuing_subword_prefix", "end_of_word_suffix"), "")
    for key, value in expected.items():
        found = model.get(key)
        if (found or None) != (value or None):
            raise _refused(
                f"a tokenizer with this {key} cannot be written as GGUF",
                found,
                f"llama.cpp takes {value!r} under the cut {cut!r}",
            )


def _check_added(told: Mapping[str, Any], vocabulary: int) -> None:
    for entry in told.get("added_tokens", []):
        if entry["id"] >= vocabulary:
            why = f"its number is {entry['id']} and the model's embedding has {vocabulary} rows"
            raise _refused("the model knows no such token", entry["content"], why)
        taken = [key for key in ("single_word", "lstrip", "rstrip") if entry.get(key)]
        if taken:
            why = f"llama.cpp does not know {' or '.join(taken)}"
            raise _refused("a token with rules for its surroundings cannot be written as GGUF", entry["content"], why)


def _ends(folder: Path) -> _Ends:
    """Return what the tokenizer puts around a text, as it does: its files may say it in several places."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    bare, around = (tokenizer(PROBE, add_special_tokens=add)["input_ids"] for add in (False, True))
    for start, end in itertools.product((False, True), repeat=2):
        expected = [*([tokenizer.bos_token_id] * start), *bare, *([tokenizer.eos_token_id] * end)]
        if around == expected:
            return _Ends(start, end, _chat_start(tokenizer))
    shown = tokenizer.convert_ids_to_tokens(around)
    raise _refused("this tokenizer puts other tokens around a text than start and end", shown, "llama.cpp would not")


def _chat_start(tokenizer: Any) -> bool | None:
    if tokenizer.chat_template is None or tokenizer.bos_token is None:
        return None
    text = tokenizer.apply_chat_template([{"role": "user", "content": PROBE}], tokenize=False)
    return str(text).startswith(tokenizer.bos_token)


def _tokens(told: Mapping[str, Any], vocabulary: int) -> tuple[list[str], list[int]]:
    import gguf

    by_id = {number: token for token, number in told["model"]["vocab"].items()}
    added = {entry["id"]: entry for entry in told.get("added_tokens", [])}
    tokens, types = [], []
    for number in range(vocabulary):
        if number in added:
            tokens.append(added[number]["content"])
            special = added[number]["special"]
            types.append(gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED)
        elif number in by_id:
            tokens.append(by_id[number])
            types.append(gguf.TokenType.NORMAL)
        else:
            tokens.append(f"[PAD{number}]")
            types.append(gguf.TokenType.UNUSED)
    return tokens, types
