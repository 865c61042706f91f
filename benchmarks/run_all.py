"""Run every benchmark beside this file, one after the other; each prints ratios measured side by side in its own run.

Run: ``make bench``. A benchmark is a script here that prints its figures; modules that they share define no ``main``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
QUIET = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""The figures are what people came for, not the bars of the libraries."""
CANNOT_RUN_HERE = 2
"""How a benchmark ends that wants hardware which this machine lacks; it has said so."""


def scripts() -> list[Path]:
    """Return the benchmarks in alphabetical order."""
    others = [path for path in sorted(HERE.glob("*.py")) if path.name != Path(__file__).name]
    return [path for path in others if '__name__ == "__main__"' in path.read_text(encoding="utf-8")]


def main() -> int:
    """Run all; return 1 when one of them failed, after the others have run too."""
    failed = []
    for script in scripts():
        print(f"== {script.stem}", flush=True)
        done = subprocess.run([sys.executable, str(script)], check=False, env=os.environ | QUIET)
        if done.returncode not in (0, CANNOT_RUN_HERE):
            failed.append(script.stem)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
