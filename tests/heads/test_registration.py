"""Light modules of heads stay light, and transformers learns the converted types whatever is imported first."""

from __future__ import annotations

import subprocess
import sys

import pytest

KNOWN = "from transformers import AutoConfig; print(type(AutoConfig.for_model('moh_qwen3', moh={})).__name__)"


def said(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_layouts_loads_neither_torch_nor_transformers() -> None:
    code = "import strop.heads.layout, sys; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    assert said(code) == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [
        "from transformers import Qwen3ForCausalLM, LlamaForCausalLM",
        "from transformers import Qwen3Config",
        "import transformers.models.auto.modeling_auto",
        "from transformers import AutoTokenizer",
        "from strop.heads.modeling.families import config_class",
    ],
)
def test_types_are_known_whatever_is_imported_behind_strop(first: str) -> None:
    """A class of transformers may be half made when its table of types is loaded."""
    assert said(f"import strop.heads; {first}; {KNOWN}") == "MoHQwen3Config"


@pytest.mark.slow
def test_types_are_known_where_transformers_was_there_before() -> None:
    assert said(f"from transformers import AutoModelForCausalLM; import strop.heads; {KNOWN}") == "MoHQwen3Config"
