"""Hidden states of a frozen language model as features of a response in its place, kept on disk between runs.

A block is ``mean@L`` (the mean over the response's tokens behind layer L, the end of turn among them) or ``last@L``
(its last token). Behind a causal model's prompt the states of the response know the prompt, and the prompt's own states
are the same for every response: they are left out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.errors import UserError
from strop.models.embedding_cache import EmbeddingCache
from strop.models.weights import check_folder, folder_revision

Vectors = NDArray[np.float32]

BLOCK = re.compile(r"(mean|last)@(\d+)")
BATCH_TOKENS = 4096
"""Padded tokens of a batch."""
RULE = "states-1"
"""Version of how states become features; part of the revision, because it moves them."""


def is_states_block(name: str) -> bool:
    """Say whether a block of features is made of hidden states."""
    return BLOCK.fullmatch(name) is not None


class HiddenStates:
    """A frozen causal language model of one folder.

    Attributes:
        name: As it was asked for.
        revision: Hash of the folder and of the rule that turns states into features.
    """

    def __init__(self, folder: Path, *, name: str, cache: Path, device: str = "cpu") -> None:
        """Take a model folder; the weights are loaded when the first response is not in the cache.

        Args:
            folder: The model's.
            name: What to call it.
            cache: Folder for the vectors.
            device: Where it runs.
        """
        check_folder(folder)
        self.name = name
        self.revision = hashlib.sha256(f"{folder_revision(folder)}\0{RULE}".encode()).hexdigest()
        self._folder, self._device = folder, device
        self._cache = EmbeddingCache(cache / f"states-{self.revision[:32]}.sqlite")
        self._asked: set[tuple[str, str]] = set()

    @property
    def texts(self) -> int:
        """How many different responses were asked for."""
        return len(self._asked)

    @property
    def divided(self) -> int:
        """How many of those were read in parts: none; what is longer than the model's context is refused."""
        return 0

    def encode(
        self,
        items: Sequence[tuple[str, str]],
        blocks: Sequence[str],
        *,
        advance: Callable[[int], None] | None = None,
    ) -> dict[str, Vectors]:
        """Return every block for every response.

        Args:
            items: Prompts and responses, n of them, rendered by the model's chat template.
            blocks: Names such as ``mean@20``.
            advance: Told the number of further different responses done.

        Returns:
            By block: float32 ``(n, width)``.

        Raises:
            UserError: A block is no block of this model, or an item is longer than its context.
        """
        places = {block: self._place(block) for block in blocks}
        unique = list(dict.fromkeys(items))
        known = self._cache.read([_key(item, block) for item in unique for block in blocks])
        fresh = [item for item in unique if any(_key(item, block) not in known for block in blocks)]
        if advance:
            advance(len(unique) - len(fresh))
        for batch, found in self._computed(fresh, places):
            rows = {_key(item, block): (found[block][slot], 1) for slot, item in enumerate(batch) for block in blocks}
            self._cache.write(rows)
            known |= rows
            if advance:
                advance(len(batch))
        self._asked |= set(unique)
        return {block: np.stack([known[_key(item, block)][0] for item in items]) for block in blocks}

    def close(self) -> None:
        """Close the cache and let the model go."""
        self._cache.close()
        self.__dict__.pop("_model", None)

    def _place(self, block: str) -> tuple[str, int]:
        found = BLOCK.fullmatch(block)
        layers = int(self._config["num_hidden_layers"])
        if found is None or int(found[2]) > layers:
            raise UserError("no such block of hidden states", value=block, why=f"{self.name} has {layers} layers")
        return found[1], int(found[2])

    @cached_property
    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads((self._folder / "config.json").read_text(encoding="utf-8"))
        return config

    @cached_property
    def _model(self) -> Any:
        from strop.models.local import LocalModel

        return LocalModel(self._folder, device=self._device, dtype="float32")

    def _computed(
        self, items: Sequence[tuple[str, str]], places: dict[str, tuple[str, int]]
    ) -> Iterator[tuple[list[tuple[str, str]], dict[str, Vectors]]]:
        from strop.models.render import encode_examples

        if not items:
            return
        examples = encode_examples(self._model.tokenizer, list(items), chat="on")
        order = sorted(range(len(items)), key=lambda index: -sum(map(len, examples[index])))
        longest = sum(map(len, examples[order[0]]))
        if longest > self._model.context:
            raise UserError(
                f"a response of {longest} tokens with its prompt",
                value=items[order[0]][1][:60],
                why=f"{self.name} takes {self._model.context}",
                fix="leave out the long ones",
            )
        start = 0
        while start < len(order):
            width = sum(map(len, examples[order[start]]))
            batch = order[start : start + max(1, BATCH_TOKENS // width)]
            yield [items[index] for index in batch], self._states([examples[index] for index in batch], places)
            start += len(batch)

    def _states(
        self, examples: Sequence[tuple[list[int], list[int]]], places: dict[str, tuple[str, int]]
    ) -> dict[str, Vectors]:
        import torch

        model = self._model.model
        width = max(len(prompt) + len(response) for prompt, response in examples)
        # Padding stands on the right of a causal model: no token sees it, whatever it is.
        ids = torch.zeros((len(examples), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for slot, (prompt, response) in enumerate(examples):
            ids[slot, : len(prompt) + len(response)] = torch.tensor(prompt + response)
            mask[slot, : len(prompt) + len(response)] = 1
        with torch.inference_mode():
            states = model.base_model(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                output_hidden_states=True,
                use_cache=False,
            ).hidden_states
        found: dict[str, Vectors] = {}
        for block, (kind, layer) in places.items():
            rows = []
            for slot, (prompt, response) in enumerate(examples):
                own = states[layer][slot, len(prompt) : len(prompt) + len(response)].float().cpu()
                rows.append((own.mean(0) if kind == "mean" else own[-1]).numpy())
            found[block] = np.stack(rows).astype(np.float32)
        return found


def open_states(spec: str, *, cache: Path | None = None, device: str = "cpu") -> HiddenStates:
    """Open a language model whose hidden states describe responses; nothing is loaded before the first new one.

    Args:
        spec: ``builtin:NAME``, ``hf:ORG/NAME`` or a folder.
        cache: Where vectors are kept; the user's cache folder by default.
        device: Where the model runs.

    Raises:
        UserError: It has no weights on this machine.
    """
    from strop.models.builtin import cache_folder
    from strop.models.opening import model_folder
    from strop.models.spec import parse_model

    folder = model_folder(parse_model(spec))
    return HiddenStates(
        folder, name=spec, cache=cache_folder() / "embeddings" if cache is None else cache, device=device
    )


def _key(item: tuple[str, str], block: str) -> str:
    content = json.dumps([*item, block], ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
