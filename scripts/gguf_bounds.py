"""How far llama.cpp's greedy text on exported GGUF files is from what the safetensors would write, by precision.

python scripts/gguf_bounds.py [--messages 13] [--max-tokens 48]

Writes SmolLM2 in every precision, serves each file with llama.cpp, and has the safetensors in float32 read its greedy
answers to the prompts of `strop endpoint check` and to client messages. The bounds of `strop export --check` come from
this.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import get_args

from strop.models.builtin import SMOLLM2, builtin_folder
from strop.models.gguf_file import Weights, write_gguf
from strop.models.local import LocalModel
from strop.models.serving.llama_cpp import llama_server
from strop.models.serving.served import open_served
from strop.models.serving.serving_check import PROMPTS, check_serving
from strop.records.rows import Message, Prompt
from strop.records.tables import read_table


def prompts(messages: int) -> dict[str, Prompt]:
    """Return the usual prompts and the first client messages that come with strop."""
    table = Path(str(files("strop") / "data" / "client_messages" / "messages-v1.jsonl"))
    rows = read_table(table)[:messages]
    return {**PROMPTS, **{f"message {place}": (Message("user", row["prompt"]),) for place, row in enumerate(rows)}}


def main() -> None:
    """Print one line a precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=13)
    parser.add_argument("--max-tokens", type=int, default=48)
    options = parser.parse_args()
    folder = builtin_folder(SMOLLM2)
    local = LocalModel(folder, device="cpu", dtype="float32")
    asked = prompts(options.messages)
    print(f"{'weights':8} {'tokens':>7} {'others':>7} {'widest gap':>11} {'log-prob difference':>20}  (nats)")
    for weights in get_args(Weights):
        with tempfile.TemporaryDirectory() as place:
            file = write_gguf(folder, Path(place) / "model.gguf", weights=weights)
            with llama_server(file) as url, closing(open_served(url)) as served:
                found = check_serving(served, local, asked, max_tokens=options.max_tokens)
        texts = [check.text for check in found.prompts if check.text is not None]
        gaps = [one.gap for text in texts for one in text.disagreements]
        tokens, difference = sum(text.tokens for text in texts), found.log_prob_difference or 0.0
        print(f"{weights:8} {tokens:7} {len(gaps):7} {max(gaps, default=0.0):11.3f} {difference:20.4f}", flush=True)


if __name__ == "__main__":
    main()
