"""What `accelerate launch` starts: ``python -m strop.training.worker JOB.json`` trains one job."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from strop.errors import StropError
from strop.records.tables import atomic_path
from strop.training.job import TrainingJob
from strop.training.launching import FAILURE, OUTCOME, PARENT, PROGRESS


def main(job_file: Path) -> int:
    """Train the job in `job_file`; return the exit code."""
    from strop.training.running import execute

    _end_with_parent()
    job = TrainingJob.read(job_file)
    first = int(os.environ.get("RANK", "0")) == 0

    def advance(done: int, steps: int) -> None:
        _write(job.work / PROGRESS, json.dumps([done, steps]))

    try:
        outcome = execute(job, advance=advance)
    except StropError as error:
        print(error, file=sys.stderr)
        if first:
            _write(job.work / FAILURE, json.dumps(_told(error)))
        return error.exit_code
    if first:
        outcome.write(job.work / OUTCOME)
    return 0


def _end_with_parent() -> None:
    """Leave when the process that waits for this one is gone: the next run of its command starts another."""
    told = os.environ.get(PARENT)
    if told is None:
        return

    def watch(parent: int) -> None:
        while True:
            try:
                os.kill(parent, 0)
            except ProcessLookupError:
                os._exit(1)
            time.sleep(1.0)

    threading.Thread(target=watch, args=(int(told),), daemon=True).start()


def _told(error: StropError) -> dict[str, object]:
    return {
        "kind": type(error).__name__,
        "what": error.what,
        "value": None if error.value is None else str(error.value),
        "why": error.why,
        "fix": error.fix,
        "alternatives": list(error.alternatives),
    }


def _write(file: Path, text: str) -> None:
    with atomic_path(file) as part:
        part.write_text(text)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
