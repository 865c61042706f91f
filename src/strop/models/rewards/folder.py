"""A reward model of transformers on this machine: batches sorted by length, scores that stand alone.

Shape legend: B texts of a batch, L tokens with padding, H outputs (1, or one for each principle).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.models.rewards.facts import RewardFacts
from strop.models.rewards.protocol import Advance, Item
from strop.models.rewards.reading import (
    canonical_text,
    check_window,
    encode_items,
    encode_texts,
    knows_segments,
    reward_tokenizer,
    segments,
)
from strop.models.weights import check_folder, folder_revision

BATCH_TOKENS = 8192
"""Padded tokens of a batch; it changes no score by more than rounding."""


class FolderReward:
    """A reward model folder, loaded.

    Attributes:
        facts: What the folder says about itself.
        tokenizer: The folder's, with a padding token that is no end token.
        batch_tokens: Most padded tokens of a batch.
        padding_side: ``right`` or ``left``, neither of which changes a score; an encoder, which reads its first place,
            is always padded on the right.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_tokens: int = BATCH_TOKENS,
        padding_side: str = "right",
    ) -> None:
        """Load the model.

        Raises:
            UserError: The folder is no reward model, or there is no such device.
        """
        from strop.models.batching import quiet_transformers
        from strop.models.local import resolve_device, resolve_dtype

        check_folder(folder)
        self.folder, self.facts = folder, RewardFacts.read(folder)
        self.batch_tokens = batch_tokens
        self.padding_side = "right" if self.facts.form == "pair" else padding_side
        self._device = resolve_device(device)
        self._dtype = resolve_dtype(dtype, device=self._device)
        with quiet_transformers():
            self.tokenizer, self._model = _load(folder, self._device, self._dtype)

    @property
    def name(self) -> str:
        """The base model with what became of it."""
        return f"{self.facts.base}, reward model"

    @property
    def dtype(self) -> str:
        """The precision of the weights in memory."""
        return self._dtype

    @cached_property
    def revision(self) -> str:
        """The hash of the folder's files, and the precision where it is not float32."""
        return folder_revision(self.folder) + ("" if self._dtype == "float32" else f"+{self._dtype}")

    def score(self, items: Sequence[Item], *, advance: Advance | None = None, normalised: bool = False) -> list[float]:
        """Return one reward for each item; see `RewardModel.score`.

        Args:
            items: Prompts and responses.
            advance: Told how many further items have been scored.
            normalised: In standard deviations from the mean of the development rewards.

        Raises:
            UserError: An item is longer than the window.
        """
        return self.rewards(self.read_items(items), normalised=normalised, advance=advance)

    def score_texts(self, texts: Sequence[str], *, normalised: bool = False) -> list[float]:
        """Return one reward for each text that is rendered already.

        Args:
            texts: See `read_texts`.
            normalised: As in `score`.

        Raises:
            UserError: A text is longer than the window.
        """
        return self.rewards(self.read_texts(texts), normalised=normalised)

    def read_items(self, items: Sequence[Item]) -> list[list[int]]:
        """Return the tokens of prompts and responses.

        Raises:
            UserError: An item is longer than the window.
        """
        return encode_items(self.tokenizer, items, form=self.facts.form, max_length=self.facts.max_length)

    def read_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of texts that are rendered already: what ``/get_reward`` is asked for.

        Args:
            texts: Conversations as the model reads them; end and padding tokens around them are set right.

        Raises:
            UserError: A text is longer than the window.
        """
        ids = encode_texts(self.tokenizer, [canonical_text(self.tokenizer, text) for text in texts])
        for text, tokens in zip(texts, ids, strict=True):
            check_window(tokens, text, self.facts.max_length)
        return ids

    def score_heads(self, items: Sequence[Item]) -> dict[str, list[float]]:
        """Return the rewards by principle; empty where the model has one output.

        Raises:
            UserError: An item is longer than the window.
        """
        outputs = self.outputs(self.read_items(items))
        return {head: [row[place] for row in outputs] for place, head in enumerate(self.facts.heads)}

    def rewards(
        self, ids: Sequence[Sequence[int]], *, normalised: bool = False, advance: Advance | None = None
    ) -> list[float]:
        """Return one reward for each text of tokens: the model's output, or the mean of its outputs.

        Args:
            ids: Tokens, as `read_items` or `read_texts` returns them.
            normalised: As in `score`.
            advance: Told how many further texts have been scored.

        Raises:
            UserError: Normalised rewards are asked of a model without a scale, or a reward is no number.
        """
        scale = self.facts.normalisation
        if normalised and scale is None:
            raise UserError(
                "this reward model has no scale",
                value=str(self.folder),
                why="it was trained without development pairs, which give mean and deviation",
                fix="ask for raw rewards, or train it with --development",
            )
        rewards = [sum(outputs) / len(outputs) for outputs in self.outputs(ids, advance=advance)]
        return [scale.apply(reward) for reward in rewards] if normalised and scale else rewards

    def outputs(self, ids: Sequence[Sequence[int]], *, advance: Advance | None = None) -> list[tuple[float, ...]]:
        """Return the model's outputs for texts that are tokens already, ``(H,)`` each, in their order."""
        order = sorted(range(len(ids)), key=lambda place: -len(ids[place]))
        found: dict[int, tuple[float, ...]] = {}
        start = 0
        while start < len(order):
            longest = len(ids[order[start]])
            batch = order[start : start + max(1, self.batch_tokens // max(longest, 1))]
            scored = self._forward([ids[place] for place in batch], longest)
            found.update(zip(batch, scored, strict=True))
            start += len(batch)
            if advance is not None:
                advance(len(batch))
        return [found[place] for place in range(len(ids))]

    def _forward(self, batch: Sequence[Sequence[int]], longest: int) -> list[tuple[float, ...]]:
        import torch

        pad = self._model.config.get_text_config().pad_token_id
        ids_bl = torch.full((len(batch), longest), pad)
        mask_bl = torch.zeros((len(batch), longest), dtype=torch.long)
        for place, tokens in enumerate(batch):
            here = slice(longest - len(tokens), None) if self.padding_side == "left" else slice(0, len(tokens))
            ids_bl[place, here] = torch.tensor(tokens)
            mask_bl[place, here] = 1
        named: dict[str, Any] = {"input_ids": ids_bl, "attention_mask": mask_bl}
        if self.facts.form == "pair":
            if knows_segments(self._model.config):
                named["token_type_ids"] = segments(ids_bl, self.tokenizer.sep_token_id)
        else:
            named["position_ids"] = (mask_bl.cumsum(1) - 1).clamp(min=0)
        with torch.inference_mode():
            logits_bh = self._model(**{key: value.to(self._device) for key, value in named.items()}).logits
        rows = [tuple(row) for row in logits_bh.float().cpu().tolist()]
        if not all(math.isfinite(value) for row in rows for value in row):
            raise UserError(
                "a reward is not a number",
                value=self.name,
                why="the weights have overflowed, in training or in this precision",
                fix="use float32, or train again with a lower learning rate",
            )
        return rows

    def close(self) -> None:
        """Drop the weights."""
        self._model = None


def _load(folder: Path, device: Any, dtype: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification

    tokenizer = reward_tokenizer(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype)
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return tokenizer, model.to(device).eval()
