"""A few of a contestant's answers ahead of a run, to forecast what all of them will take. They are kept for the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from strop.judging.contest.answering import Contestant
from strop.models.forecasting import Forecast, forecast
from strop.models.placement import Placement, open_placed
from strop.models.protocol import Sampling
from strop.records.rows import Prompt
from strop.runs.progress import Reporter
from strop.runs.workspace import open_calls


def try_contestant(
    contestant: Contestant,
    prompts: Sequence[Prompt],
    *,
    sampling_seed: int,
    draw_seed: int,
    pilot: int,
    workspace: Path,
    placement: Placement,
    quiet: bool = False,
) -> Forecast:
    """Let a contestant answer a few prompts, and forecast what the rest will take.

    Args:
        contestant: Who answers.
        prompts: All that it will be asked, as it will be asked.
        sampling_seed: The run's seed of its samples: only then are the pilot's answers the run's.
        draw_seed: Of which prompts the pilot takes.
        pilot: How many.
        workspace: Where the answers are kept.
        placement: Where the model answers.
        quiet: Whether to keep progress to itself.
    """
    sampling = Sampling(contestant.temperature, max_tokens=contestant.max_tokens, seed=sampling_seed)
    model = open_placed(contestant.model, placement)
    try:
        with (
            open_calls(workspace, "pilot", contestant.model.model) as store,
            Reporter(quiet=quiet).progress(f"pilot: {contestant.label}", pilot) as advance,
        ):
            return forecast(
                model,
                prompts,
                sampling,
                samples=1,
                pilot=pilot,
                random=Random(draw_seed),
                store=store,
                parallel=contestant.model.parallel,
                advance=advance,
            )
    finally:
        model.close()
