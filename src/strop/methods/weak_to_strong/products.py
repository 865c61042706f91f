"""What a weak-to-strong run leaves for use elsewhere: its models and its Stage II pairs, seed by seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from strop.methods.weak_to_strong.config import WeakToStrongConfig
from strop.methods.weak_to_strong.document import label
from strop.records.document import Product
from strop.runs import Artifact


def products(config: WeakToStrongConfig, artifacts: Mapping[str, Artifact], *, final: str) -> Iterator[Product]:
    """Yield every model that the run trained and every set of pairs that it built.

    Args:
        config: The run's settings.
        artifacts: The run's artifacts by stage name.
        final: The arm that is the method's result; that of the first seed is final.
    """
    for seed in config.seeds:
        bases = _bases(config, seed)
        for arm, base in bases.items():
            name = _stage(seed, arm)
            if name in artifacts:
                is_final = arm == final and seed == config.seeds[0]
                note = "weak model" if arm == "weak_model" else label(arm)
                yield Product(name, "model", name, "model", base, is_final, f"{note}, seed {seed}")
        pairs = _stage(seed, "pairs")
        if pairs in artifacts:
            note = f"Stage II: weak answers against votes of the Stage I model, seed {seed}"
            yield Product(pairs, "pairs", pairs, "pairs.jsonl", note=note)


def _stage(seed: int, arm: str) -> str:
    return f"seed{seed}-{arm.replace('_', '-')}"


def _bases(config: WeakToStrongConfig, seed: int) -> dict[str, str]:
    """Return what each arm of a seed is trained from; arms that the run has left out are among them."""
    strong, last = config.strong.model, config.stage_one.iterations
    stage_one = [f"iteration{number}_{source}" for number in range(1, last + 1) for source in ("weak", "icl", "hybrid")]
    compared = ("naive", "self_labels", "shuffled", "ceiling")
    stage_two = config.stage_two.train if config.stage_two else {}
    return {
        "weak_model": config.weak.model.model,
        **dict.fromkeys((*stage_one, *compared), strong),
        **dict.fromkeys(stage_two, _stage(seed, f"iteration{last}_hybrid")),
    }
