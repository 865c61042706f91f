"""A calibration from files to a folder: the file that a matcher names, every similarity, and the figure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from strop.methods.selfplay.behaviours import BEHAVIOURS, read_behaviours
from strop.methods.selfplay.calibration import STATEMENTS, Calibration, calibrate, read_statements
from strop.methods.selfplay.calibration_figure import draw_histograms
from strop.methods.selfplay.cards import CARDS, read_cards
from strop.methods.selfplay.similarity import CALIBRATION_FORMAT, EmbeddingMatcher
from strop.models.embedding import open_embedder
from strop.models.weights import file_hash
from strop.records.tables import atomic_path, write_table

CALIBRATION_FILE, PAIRS_FILE, FIGURE_FILE = "calibration.json", "similarities.jsonl", "similarities.svg"
DIGITS = 4
"""Decimals of the figures in the file, which another machine's last bits shall not change."""


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """What to calibrate with.

    Attributes:
        embedder: The encoder.
        cards: The cards.
        statements: What a therapist who has understood says about them.
        behaviours: The groups that statements about principles name.
        seed: Of the halves and the intervals.
    """

    embedder: str = "builtin:minilm"
    cards: Path = CARDS
    statements: Path = STATEMENTS
    behaviours: Path = BEHAVIOURS
    seed: int = 0


def calibration_of(request: CalibrationRequest, *, cache: Path | None = None) -> tuple[Calibration, dict[str, Any]]:
    """Return a calibration, and the content of its file.

    Args:
        request: The files.
        cache: Where vectors are kept; the user's cache folder by default.

    Raises:
        UserError: A file or the encoder is missing or broken, or there are too few cards.
    """
    cards, behaviours = read_cards(request.cards), read_behaviours(request.behaviours)
    statements = read_statements(request.statements, cards, behaviours)
    embedder = open_embedder(request.embedder, cache=cache)
    try:
        found = calibrate(statements, cards, EmbeddingMatcher(embedder, 0.0), seed=request.seed)
    finally:
        embedder.close()
    files = {"cards": request.cards, "statements": request.statements, "behaviours": request.behaviours}
    content = {
        "format": CALIBRATION_FORMAT,
        "embedder": request.embedder,
        "revision": embedder.revision,
        "seed": request.seed,
        "files": {name: {"name": path.name, "sha256": file_hash(path)} for name, path in files.items()},
        **_rounded(found.to_row()),
    }
    return found, content


def write_calibration(found: Calibration, content: Mapping[str, Any], folder: Path) -> None:
    """Write the file that a matcher names, the similarities without any text, and the figure.

    Args:
        found: The calibration.
        content: Of its file.
        folder: Made where it is missing; files of these names are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / CALIBRATION_FILE) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    write_table(folder / PAIRS_FILE, (_rounded(asdict(pair)) for pair in found.pairs))
    draw_histograms(found.pairs, found.thresholds, folder / FIGURE_FILE)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, (list, tuple)) else value
