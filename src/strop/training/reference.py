"""DPO's reference log-probabilities: computed once from the starting model, kept beside the checkpoints by exact key.

The key lists what the values depend on: tokens of all pairs, weights, precision and batching. A cache that was read is
spot-checked against the model before it is used.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPOT_CHECK = 16
"""Pairs whose log-probabilities are computed again when a cache is read."""
SPOT_TOLERANCE = 1e-3
"""Largest relative difference between a cached value and the one computed again."""


@dataclass(frozen=True, slots=True)
class ReferenceCache:
    """Reference log-probabilities in one safetensors file; a key that differs means computing them again."""

    file: Path
    precision: str

    def attach(self, trainer: Any, pairs: Any, batch_size: int) -> Any:
        """Return `pairs` with the columns ``ref_chosen_logps`` and ``ref_rejected_logps``.

        Args:
            trainer: A DPO trainer whose model is still the starting one.
            pairs: Data set of tokenised pairs.
            batch_size: Pairs in a forward pass.
        """
        key = self._key(trainer, pairs, batch_size)
        columns = self._load(key)
        if columns is None or not _confirmed(trainer, pairs, columns):
            columns = _compute(trainer, pairs, batch_size)
            if trainer.accelerator.is_main_process:
                self._save(key, columns)
        for name, values in columns.items():
            pairs = pairs.add_column(name, values)
        return pairs

    def _key(self, trainer: Any, pairs: Any, batch_size: int) -> str:
        digest = hashlib.sha256()
        digest.update(json.dumps([trainer._precompute_model_hash, self.precision, batch_size]).encode())
        for pair in pairs:
            digest.update(json.dumps([pair["prompt_ids"], pair["chosen_ids"], pair["rejected_ids"]]).encode())
        return digest.hexdigest()

    def _load(self, key: str) -> dict[str, list[float]] | None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.file, framework="np") as stored:
                if (stored.metadata() or {}).get("key") != key:
                    return None
                return {name: stored.get_tensor(name).tolist() for name in sorted(stored.keys())}
        except (OSError, SafetensorError):
            return None

    def _save(self, key: str, columns: dict[str, list[float]]) -> None:
        import numpy
        from safetensors.numpy import save_file

        from strop.records.tables import atomic_path

        arrays = {name: numpy.asarray(values, dtype=numpy.float32) for name, values in columns.items()}
        with atomic_path(self.file) as part:
            save_file(arrays, part, metadata={"key": key})


def _compute(trainer: Any, pairs: Any, batch_size: int) -> dict[str, list[float]]:
    """Compute the log-probabilities of all pairs, shared out over the processes."""
    from torch.utils.data import DataLoader

    loader = trainer.accelerator.prepare(DataLoader(pairs, batch_size=batch_size, collate_fn=trainer.data_collator))
    columns: dict[str, list[float]] = {"ref_chosen_logps": [], "ref_rejected_logps": []}
    model = trainer.ref_model or trainer.model
    training = model.training
    model.eval()
    for batch in loader:
        sides = trainer.accelerator.gather_for_metrics(trainer.compute_ref_log_probs(model, batch))
        for values, side in zip(columns.values(), sides, strict=True):
            values.extend(side.float().tolist())
    model.train(training)
    return columns


def _confirmed(trainer: Any, pairs: Any, columns: dict[str, list[float]]) -> bool:
    import numpy

    some = pairs.select(range(min(SPOT_CHECK, len(pairs))))
    again = _compute(trainer, some, 4)
    return all(
        numpy.allclose(columns[name][: len(values)], values, rtol=SPOT_TOLERANCE, atol=SPOT_TOLERANCE)
        for name, values in again.items()
    )
