"""Batched sampling from a causal language model: one shared prefill, and noise that belongs to each call alone.

Shape legend: U unique prompts, R rows (one per call), L prompt tokens with padding, V vocabulary.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from strop.models.protocol import Call, Sampling
from strop.records.rows import prompt_to_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SHORTEST_SHARED_PREFIX = 16
COMPACT_BELOW = 0.75
LARGEST_UNIFORM = 1.0 - 2.0**-24
# The multipliers of MurmurHash3's 64-bit finalizer, as signed integers, and odd constants that spread step and token.
MIX_1, MIX_2 = -49064778989728563, -4265267296055464877
STEP_STRIDE, TOKEN_STRIDE = -7046029254386353131, 2862933555777941757


@dataclass(slots=True)
class Row:
    """One completion in the making.

    Attributes:
        prompt: Index of its prompt in the batch.
        key: Its noise stream, see `noise_key`.
        room: The most tokens it may get.
    """

    prompt: int
    key: int
    room: int
    tokens: list[int] = field(default_factory=list)
    stopped: bool = False


def noise_key(call: Call) -> int:
    """Return the 63-bit key of a call's noise stream; it depends on the seed, the prompt and the sample index."""
    prompt = json.dumps(prompt_to_json(call.prompt))
    digest = hashlib.sha256(f"{call.sampling.seed}\0{call.sample}\0{prompt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def gumbel_noise(keys_r: torch.Tensor, step: int, vocabulary: int) -> torch.Tensor:
    """Return standard Gumbel noise, shape ``[R, V]``: a pure function of (key, step, token), the same on any device.

    Counter-based (a 64-bit finalizer over key, step and token), so that a call's noise does not depend on what else is
    in its batch, and costs no generator per row.
    """
    tokens_v = torch.arange(vocabulary, device=keys_r.device, dtype=torch.int64) * TOKEN_STRIDE
    rows_r = _mix(keys_r + step * STEP_STRIDE % 2**62)
    bits_rv = _mix(rows_r[:, None] + tokens_v)
    uniform_rv = (_shift(bits_rv, 33).float() + 0.5).mul_(2.0**-31).clamp_(max=LARGEST_UNIFORM)
    # Small uniforms are exact in float32, and they make the large noises that decide: -log(-log(1 - u)).
    return uniform_rv.neg_().log1p_().neg_().log_().neg_()


def _shift(bits: torch.Tensor, count: int) -> torch.Tensor:
    """Shift 64-bit integers right without their sign."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


def _mix(bits: torch.Tensor) -> torch.Tensor:
    bits = (bits ^ _shift(bits, 33)) * MIX_1
    bits = (bits ^ _shift(bits, 33)) * MIX_2
    return bits ^ _shift(bits, 33)


class Sampler:
    """Draws the next token of each row: temperature, then top-p, then the Gumbel maximum; the argmax at temperature 0.

    The index of the largest ``logit / temperature + noise`` is a draw from the softmax (Gumbel, 1954; Maddison et al.,
    arXiv 1411.0030, section 2).
    """

    def __init__(self, sampling: Sampling) -> None:
        self._greedy = sampling.temperature == 0
        self._temperature = sampling.temperature
        self._top_p = sampling.top_p

    def __call__(self, logits_rv: torch.Tensor, keys_r: torch.Tensor, step: int) -> torch.Tensor:
        """Return one token per row, shape ``[R]``."""
        if self._greedy:
            return logits_rv.argmax(-1)
        scores_rv = logits_rv.float() / self._temperature
        if self._top_p < 1:
            scores_rv = keep_top_p(scores_rv, self._top_p)
        return (scores_rv + gumbel_noise(keys_r, step, scores_rv.shape[-1])).argmax(-1)


def keep_top_p(scores_rv: torch.Tensor, top_p: float) -> torch.Tensor:
    """Remove all but the likeliest tokens whose probabilities together reach `top_p` (nucleus sampling)."""
    from transformers import TopPLogitsWarper

    no_ids: Any = None
    kept: torch.Tensor = TopPLogitsWarper(top_p)(no_ids, scores_rv)
    return kept


class StopStrings:
    """Finds out whether a row has just written a stop string, looking only where that is possible.

    A stop string is complete when a token arrives that holds its last character; only then is the row's tail decoded.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Collection[str], pieces: Sequence[str]) -> None:
        """Prepare the check.

        Args:
            tokenizer: Decodes tails.
            stops: The stop strings, none empty.
            pieces: What each token of the vocabulary can contribute to a text, by token id.
        """
        self._tokenizer, self._stops = tokenizer, tuple(stops)
        ends = {stop[-1] for stop in self._stops} | {"\ufffd"}  # \ufffd: a part of a character that took several tokens
        self._triggers = {token for token, piece in enumerate(pieces) if not ends.isdisjoint(piece)}
        # Four byte tokens make one character at most; the rest is for tokens without text.
        self._tail = 4 * max(map(len, self._stops), default=0) + 8

    def reached(self, tokens: Sequence[int]) -> bool:
        """Tell whether the text of `tokens` holds a stop string that ends within the last token."""
        if not self._stops or tokens[-1] not in self._triggers:
            return False
        tail = decode_text(self._tokenizer, tokens[-self._tail :])
        return any(stop in tail for stop in self._stops)

    def cut(self, text: str) -> str:
        """Return `text` up to the first stop string."""
        found = [index for stop in self._stops if (index := text.find(stop)) >= 0]
        return text[: min(found)] if found else text


def decode_text(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    """Return the text of `tokens` without special tokens and without any tidying of spaces."""
    text: str = tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def vocabulary_pieces(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return what each token can contribute to a text, by id.

    Each token is decoded twice in a row, because some decoders drop the space in front of a text.
    """
    return list(
        tokenizer.batch_decode(
            [[token, token] for token in range(len(tokenizer))],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
    )


def common_prefix(sequences: Sequence[list[int]]) -> int:
    """Return how many tokens all sequences begin with in common, leaving each at least one token of its own."""
    first, last = min(sequences), max(sequences)
    limit = min(map(len, sequences)) - 1
    return next((index for index in range(limit) if first[index] != last[index]), limit)


def pad_left(sequences: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, both ``[U, L]``, padded on the left."""
    longest = max(map(len, sequences))
    ids = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in sequences])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in sequences])
    return ids, mask


@dataclass(slots=True)
class _State:
    """What the next forward pass needs: the cache, the mask over it, each row's last position and its logits."""

    cache: Any
    mask: torch.Tensor
    position: torch.Tensor
    logits_rv: torch.Tensor

    def select(self, rows: torch.Tensor) -> None:
        """Keep (or repeat) the given rows."""
        self.cache.batch_select_indices(rows)
        self.mask, self.position, self.logits_rv = self.mask[rows], self.position[rows], self.logits_rv[rows]


def _prefill(model: PreTrainedModel, prompts: Sequence[list[int]], pad: int) -> _State:
    """Run the prompts through the model once each; what all of them begin with, once in all."""
    from strop.models.cache import growing_cache

    device = model.device
    cache = growing_cache(model.config)
    shared = common_prefix(prompts) if len(prompts) > 1 else 0
    if shared < SHORTEST_SHARED_PREFIX or any(getattr(layer, "is_sliding", False) for layer in cache.layers):
        shared = 0  # a sliding window counts cache slots: padding behind the prefix would narrow it
    if shared:
        model(input_ids=torch.tensor([prompts[0][:shared]], device=device), cache=cache, use_cache=True)
        cache.batch_select_indices(torch.zeros(len(prompts), dtype=torch.int64, device=device))
    ids, own = pad_left([prompt[shared:] for prompt in prompts], pad)
    mask = torch.cat([own.new_ones(len(prompts), shared), own], 1).to(device)
    positions = (mask.cumsum(-1) - 1).clamp_(min=0)
    outputs = model(
        input_ids=ids.to(device),
        attention_mask=mask,
        position_ids=positions[:, shared:],
        cache=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return _State(cache, mask, positions[:, -1:], outputs.logits[:, -1])


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    rows: Sequence[Row],
    *,
    sampler: Sampler,
    ends: Collection[int],
    stops: StopStrings,
    pad: int,
) -> None:
    """Complete every row in place.

    Args:
        model: A causal model of transformers in evaluation mode.
        prompts: Token ids of the unique prompts, U of them, none empty.
        rows: The completions to make, R of them; their `tokens` and `stopped` are filled in. The end-of-sequence token
            is not among the tokens.
        sampler: Chooses tokens.
        ends: End-of-sequence token ids.
        stops: Stop strings.
        pad: The token that fills up short prompts; any valid id.
    """
    state = _prefill(model, prompts, pad)
    keys_r = torch.tensor([row.key for row in rows], dtype=torch.int64, device=model.device)
    state.select(torch.tensor([row.prompt for row in rows], device=model.device))
    slots = list(rows)
    for step in range(max(row.room for row in rows)):
        tokens_r = sampler(state.logits_rv, keys_r, step)
        for row, token in zip(slots, tokens_r.tolist(), strict=True):
            _take(row, token, ends, stops)
        going = [slot for slot, row in enumerate(slots) if not row.stopped and len(row.tokens) < row.room]
        if not going:
            return
        if len(going) < COMPACT_BELOW * len(slots):
            kept = torch.tensor(going, device=model.device)
            state.select(kept)
            keys_r, tokens_r, slots = keys_r[kept], tokens_r[kept], [slots[slot] for slot in going]
        _advance(model, state, tokens_r)


def _take(row: Row, token: int, ends: Collection[int], stops: StopStrings) -> None:
    """Add a token to a row that is still going."""
    if row.stopped or len(row.tokens) >= row.room:
        return
    if token in ends:
        row.stopped = True
        return
    row.tokens.append(token)
    row.stopped = stops.reached(row.tokens)


def _advance(model: PreTrainedModel, state: _State, tokens_r: torch.Tensor) -> None:
    state.mask = torch.cat([state.mask, state.mask.new_ones(len(tokens_r), 1)], 1)
    state.position = state.position + 1
    outputs = model(
        input_ids=tokens_r[:, None],
        attention_mask=state.mask,
        position_ids=state.position,
        cache=state.cache,
        use_cache=True,
    )
    state.logits_rv = outputs.logits[:, -1]
