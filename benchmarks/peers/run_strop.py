"""strop doing the work of the throughput benchmark: the command that anyone would use, from a file to a file.

python run_strop.py SERVER_ROOT CALLS FOLDER      (in strop's environment, with `benchmarks` importable)
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from engine_work import MAX_TOKENS, MODEL, Prompts, count_right


def main(root: str, calls: int, folder: str) -> None:
    """Write the prompts, run `strop generate`, read its answers and print how many are right."""
    prompts = Prompts(calls)
    asked, answered = Path(folder) / "prompts.jsonl", Path(folder) / "answers.jsonl"
    with asked.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": str(place), "prompt": prompt}) + "\n" for place, prompt in enumerate(prompts))
    command = [sys.executable, "-m", "strop.cli.main", "generate", str(asked), "--out", str(answered)]
    options = ["--model", f"{root}/v1#{MODEL}", "--chat", "on", "--max-tokens", str(MAX_TOKENS), "--json"]
    subprocess.run([*command, *options, "--workspace", folder], check=True, stdout=subprocess.DEVNULL)
    with answered.open(encoding="utf-8") as file:
        rows = map(json.loads, file)
        found = {row["prompt"]: row["response"] for row in rows}
    print(json.dumps({"right": count_right((prompt, found.get(prompt)) for prompt in prompts)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
