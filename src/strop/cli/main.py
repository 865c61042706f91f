"""Entry point: runs a verb and turns whatever goes wrong into one message and an exit code.

0 done; 1 the run failed (a defect: the traceback is written to a file); 2 the user must fix something; 3 stopped by a
budget, a signal, a ceiling or a full disk: the same command continues.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import typer

from strop.cli.verbs import app
from strop.errors import Stopped, StropError

DONE, FAILED, USER_MUST_FIX, STOPPED = 0, 1, 2, 3
_TYPER_INTERRUPTED = 130


def main() -> None:
    """Run the command line of this process and exit with its code."""
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; messages go to standard error."""
    try:
        app(list(arguments), prog_name="strop")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else FAILED
        return _interrupted() if code == _TYPER_INTERRUPTED else code
    except KeyboardInterrupt:
        return _interrupted()
    except StropError as error:
        return _say(str(error), error.exit_code)
    except Exception as error:
        return _unexpected(error)
    return DONE


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _interrupted() -> int:
    return _say("stopped by a signal; everything finished is kept\n  fix: the same command continues", STOPPED)


def _say(message: str, code: int) -> int:
    typer.echo(f"strop: {message}", err=True)
    return code


def _unexpected(error: Exception) -> int:
    if isinstance(error, BrokenPipeError):
        # The reader of our output has gone (`strop show RUN | head`); nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    if _disk_is_full(error):
        full = Stopped("the disk is full", why=str(error), fix="free some space and run the same command again")
        return _say(str(full), full.exit_code)
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{last.filename}:{last.lineno} in {last.name}"
    what = f"unexpected {type(error).__name__}: {error}\n  where: {where}"
    return _say(f"{what}\n  traceback: {_write_traceback(error)}", FAILED)


def _disk_is_full(error: BaseException) -> bool:
    return (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "database or disk is full" in str(error)


def _write_traceback(error: Exception) -> str:
    text = "".join(traceback.format_exception(error))
    try:
        handle, name = tempfile.mkstemp(prefix="strop-traceback-", suffix=".txt")
        os.close(handle)
        Path(name).write_text(text, encoding="utf-8")
    except OSError as unwritable:
        return f"could not be written ({unwritable})\n{text}"
    return name


if __name__ == "__main__":
    main()
