"""``strop serve-reward``: a reward model behind the ``/get_reward`` protocol."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strop.cli.options import Device, Dtype
from strop.cli.output import AsJson, print_json

if TYPE_CHECKING:
    from strop.models.rewards.folder import FolderReward


def serve_reward_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a reward model: with reward.json.")],
    host: Annotated[str, typer.Option(metavar="H", help="Address to listen on; this machine only by default.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 5000,
    normalise: Annotated[
        bool, typer.Option("--normalise", help="Rewards in standard deviations from the development rewards' mean.")
    ] = False,
    device: Device = None,
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Serve a reward model until Ctrl-C: POST /get_reward {"query": [text, ...]} gives {"rewards": [number, ...]}.

    Texts are conversations as the model's chat template renders them; {"messages": [[...], ...]} has the server render.
    Before it serves, served and offline scores are compared on built-in texts; if they differ it ends with an error.

    Example:
        strop serve-reward reward --port 5000
    """
    from strop.models.rewards.folder import FolderReward
    from strop.web.guard import is_loopback
    from strop.web.reward_batching import Batcher
    from strop.web.reward_serving import application, check_parity, serve

    reward = FolderReward(model, device=device or "auto", dtype=dtype or "auto")
    batcher = Batcher(reward, normalised=normalise)
    try:
        app = application(reward, batcher, normalised=normalise, host=host)
        difference = check_parity(reward, app, normalised=normalise)
        if not is_loopback(host):
            typer.echo("WARNING: this server can be reached from other machines, unencrypted, by anybody", err=True)
        serve(app, host=host, port=port, ready=lambda address: _tell(reward, address, difference, as_json=as_json))
    finally:
        batcher.close()
        reward.close()


def _tell(reward: FolderReward, address: str, difference: float, *, as_json: bool) -> None:
    """Say what is served where; standard output is flushed, for whoever waits for the address."""
    if as_json:
        told = {"address": address, "name": reward.name, "revision": reward.revision}
        print_json({**told, "max_length": reward.facts.max_length, "largest_difference": difference})
    else:
        typer.echo(f"{reward.name}, revision {reward.revision[:12]}; window {reward.facts.max_length} tokens")
        typer.echo(f"served and offline scores agree: largest difference {difference:.1e}")
        typer.echo(f"{address} (Ctrl-C stops it)")
    sys.stdout.flush()
