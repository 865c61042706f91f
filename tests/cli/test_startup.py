"""`import strop` and `strop --help` are light: no tensor library, no table library, a fraction of a second."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "datasets", "trl", "peft", "accelerate", "numpy", "scipy", "pyarrow", "matplotlib")
UNWANTED_AT_START = (*HEAVY, "openai", "math_verify", "yaml", "jinja2", "httpx", "rich")
PROGRAM = """
import json, sys
sys.stdout, out = open("/dev/null", "w"), sys.stdout
try:
    {statement}
except SystemExit:
    pass
json.dump(sorted({{name.partition(".")[0] for name in sys.modules}}), out)
"""


def _loaded_by(statement: str) -> set[str]:
    program = PROGRAM.format(statement=statement)
    return set(json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout))


@pytest.mark.parametrize("statement", ["import strop", "from strop.cli.main import run; run(['--help'])"])
def test_start_is_light(statement: str) -> None:
    assert _loaded_by(statement) & set(UNWANTED_AT_START) == set()


def test_help_of_verbs_is_light() -> None:
    """No verb loads a heavy library before it is called."""
    statement = (
        "from strop.cli.main import run, app; from strop.cli.verbs import VERBS; [run([v, '--help']) for v in VERBS]"
    )
    assert _loaded_by(statement) & set(HEAVY) == set()


def test_start_time() -> None:
    """Less than three times `import typer, pydantic`, measured in the same run as benchmarks/startup.py does."""
    path = Path(__file__).parents[2] / "benchmarks" / "startup.py"
    spec = spec_from_file_location("startup", path)
    assert spec is not None
    assert spec.loader is not None
    startup = module_from_spec(spec)
    sys.modules[spec.name] = startup  # its dataclass looks itself up
    spec.loader.exec_module(startup)
    assert startup.measure(repetitions=5).ratio < 3
