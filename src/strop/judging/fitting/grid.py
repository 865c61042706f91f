"""The settings that a judge is chosen from: a data file, fixed before its figures are seen."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from strop.errors import UserError, nearest
from strop.judging.fitting.features import blocks_of

GRID_FILE = Path(__file__).resolve().parents[2] / "data" / "judge_grid.yaml"
KEYS = ("features", "C", "extra_weight")


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to fit a judge.

    Attributes:
        features: Blocks joined by ``+``, see `strop.judging.fitting.features`.
        c: C of the logistic regression, above 0; larger means less regularised.
        extra_weight: Weight of an extra label beside a label of the file itself, 0 to leave the extra ones out.
    """

    features: str
    c: float
    extra_weight: float = 0.0

    def shown(self) -> str:
        """Return the setting as a person reads it."""
        extra = f", extra labels weigh {self.extra_weight:g}" if self.extra_weight else ""
        return f"{self.features}, C = {self.c:g}{extra}"


@dataclass(frozen=True, slots=True)
class Grid:
    """A named list of settings, from the plainest to the richest."""

    name: str
    settings: tuple[Setting, ...]

    @property
    def hash(self) -> str:
        """What identifies the settings, whatever the grid is called."""
        content = json.dumps([asdict(setting) for setting in self.settings])
        return hashlib.sha256(content.encode()).hexdigest()

    def blocks(self) -> tuple[str, ...]:
        """Return every block that one of the settings uses."""
        return tuple(dict.fromkeys(block for setting in self.settings for block in blocks_of(setting.features)))

    def without_extra(self) -> Grid:
        """Return the settings that use no extra labels."""
        return Grid(self.name, tuple(setting for setting in self.settings if setting.extra_weight == 0))


def load_grid(name: str, *, path: Path = GRID_FILE) -> Grid:
    """Read one grid of a grid file.

    Args:
        name: Its name in the file.
        path: The file; the shipped one by default.

    Raises:
        UserError: No such grid, or one with a missing, unknown or empty list or a value outside its range.
    """
    import yaml

    grids: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["grids"]
    if name not in grids:
        close = nearest(name, list(grids))
        raise UserError(
            "no such grid", value=name, fix=f"did you mean {close}?" if close else None, alternatives=list(grids)
        )
    given = grids[name]
    if set(given) != set(KEYS) or not all(isinstance(given[key], list) and given[key] for key in KEYS):
        raise UserError(f"grid {name!r} must list exactly these", value=sorted(given), alternatives=KEYS)
    for key, least in (("C", math.ulp(0.0)), ("extra_weight", 0.0)):
        wrong = [each for each in given[key] if not isinstance(each, (int, float)) or not least <= each < math.inf]
        if wrong:
            raise UserError(f"grid {name!r}: {key} out of range", value=wrong[0])
    for features in given["features"]:
        blocks_of(features)
    combined = product(given["features"], given["C"], given["extra_weight"])
    settings = tuple(Setting(features, float(c), float(extra)) for features, c, extra in combined)
    if not any(setting.extra_weight == 0 for setting in settings):
        raise UserError(f"grid {name!r} needs the extra weight 0", why="files without extra labels are fitted with it")
    return Grid(name, settings)
