"""A comparison whose answers and verdicts are scripted: what the recipe makes of them is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from strop.methods.head_to_head.config import HeadToHeadConfig
from strop.records.tables import write_table

PROMPTS = [{"id": f"q{number}", "prompt": f"message {number}", "topic": f"t{number // 4}"} for number in range(24)]

Configure = Callable[..., HeadToHeadConfig]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Return a maker of settings: contestants that answer `good` and `bad words`, a judge that prefers `good`.

    Message 7 has no answer from the second.
    """
    write_table(tmp_path / "prompts.jsonl", PROMPTS)
    (tmp_path / "good.yaml").write_text("default: a good answer")
    (tmp_path / "poor.yaml").write_text(
        "rules: [{pattern: 'message ([0-6]|[89]|1.|2.)$', reply: a poor and longer answer}]"
    )
    judge = {
        "rules": [
            {"pattern": r"(?s)good answer.*poor and longer", "reply": "Reason: warm.\nVerdict: A"},
            {"pattern": r"(?s)poor and longer.*good answer", "reply": "Reason: warm.\nVerdict: B"},
        ],
        "default": "Verdict: tie",
    }
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump(judge))

    def make(**changes: Any) -> HeadToHeadConfig:
        settings: dict[str, Any] = {
            "recipe": "head_to_head",
            "prompts": tmp_path / "prompts.jsonl",
            "group": "topic",
            "first": {"model": f"scripted:{tmp_path}/good.yaml", "name": "good"},
            "second": {"model": f"scripted:{tmp_path}/poor.yaml", "name": "poor"},
            "judge": {"model": f"scripted:{tmp_path}/judge.yaml", "allow_unqualified": True},
        }
        for path, value in changes.items():
            holder, *rest = path.split("__")
            if rest:
                settings[holder] = {**settings[holder], rest[0]: value}
            else:
                settings[holder] = value
        return HeadToHeadConfig.model_validate(settings)

    return make
