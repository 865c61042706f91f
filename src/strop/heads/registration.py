"""Tells transformers the types of converted models as soon as its automatic classes are there, and not before.

Importing `strop.heads` must make ``AutoModelForCausalLM`` know ``moh_llama``, and importing `strop.heads.layout` must
not load torch and transformers. So where transformers is not loaded yet, the registration waits for it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

AUTOMATIC = "transformers.models.auto.configuration_auto"
"""The module that holds transformers' table of model types."""


def register_when_loaded() -> None:
    """Register the converted model types, now or when transformers' table of types is first loaded."""
    if AUTOMATIC in sys.modules:
        _register()
    elif not any(isinstance(finder, _Awaiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Awaiting())


class _Awaiting(MetaPathFinder):
    """Sees the one module coming, lets it load as it would, and registers behind it; then it is gone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module as Python does, with the registration behind its execution; None for any other module."""
        if fullname != AUTOMATIC:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            _register()

        loader.exec_module = execute_and_register
        return spec


def _register() -> None:
    from strop.heads.modeling.families import register
    from strop.heads.vision import registration

    register()
    registration.register()
