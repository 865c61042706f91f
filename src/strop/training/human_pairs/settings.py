"""What the comparison tries: a data file, fixed before any of its figures was seen."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.judging.fitting.grid import Grid, load_grid
from strop.training.settings import RewardSettings

COMPARISON_FILE = Path(__file__).resolve().parents[2] / "data" / "reward_comparison.yaml"
LANGUAGE_MODEL, ENCODER = "builtin:smollm2-135m", "builtin:minilm"


@dataclass(frozen=True, slots=True)
class ComparisonSettings:
    """The grids of the frozen arms and the one setting of the tuned one.

    Attributes:
        states: Grid over hidden states of a frozen language model.
        vectors: Grid over a frozen encoder's vectors.
        judge: The grid of `strop judge fit`.
        tuned: How the reward model is trained.
        hash: Of the file's bytes.
    """

    states: Grid
    vectors: Grid
    judge: Grid
    tuned: RewardSettings
    hash: str


def load_settings(path: Path = COMPARISON_FILE) -> ComparisonSettings:
    """Read the settings.

    Args:
        path: The file; the shipped one by default.

    Raises:
        UserError: A grid is missing or out of range.
    """
    import yaml

    content = path.read_bytes()
    given: dict[str, Any] = yaml.safe_load(content)
    return ComparisonSettings(
        states=load_grid("smollm2", path=path),
        vectors=load_grid("minilm", path=path),
        judge=load_grid("standard").without_extra(),
        tuned=RewardSettings.model_validate(given["tuned"]),
        hash=hashlib.sha256(content).hexdigest(),
    )
