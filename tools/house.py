"""The structure of the code in figures: package cycles, module lengths, and who takes part in parity.

    python tools/house.py [--json]

A package is a folder directly below one of the three top-level packages; a module directly below one counts
as a package of its own. Imports count wherever they stand, inside functions too; only those under
``if TYPE_CHECKING`` do not run and are left out. Exit code 1 where a package cycle exists.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = {"rmatk": "rmatk", "rmatk_export": "export/rmatk_export", "rmatk_runtime": "runtime/rmatk_runtime"}
TWO_SCREENS = 120  # lines


def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for room, folder in ROOMS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = (room, *path.relative_to(ROOT / folder).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def package(module: str) -> str:
    """``rmatk_runtime.sources.video`` -> ``rmatk_runtime.sources``."""
    return ".".join(module.split(".")[:2])


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below, what stands under ``if TYPE_CHECKING`` left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _running(child)


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The project's modules that a module imports."""
    found: set[str] = set()
    for node in _running(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (whole & known.keys()) or {node.module}
    return found


def package_graph() -> dict[str, set[str]]:
    """Which package imports which."""
    known = modules()
    graph: dict[str, set[str]] = {}
    for module, path in known.items():
        below = {package(other) for other in imports(path, known)} - {package(module)}
        graph.setdefault(package(module), set()).update(name for name in below if name not in ROOMS)
    return {name: targets for name, targets in graph.items() if name not in ROOMS}


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of packages that reach each other (strongly connected components of two or more)."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for name in graph.get(todo.pop(), set()) - seen:
                seen.add(name)
                todo.append(name)
        return seen

    reached = {name: reach(name) for name in graph}
    groups = {
        tuple(sorted({name} | {other for other in reached[name] if name in reached.get(other, set())}))
        for name in graph
        if name in reached[name]
    }
    return [list(group) for group in sorted(groups)]


def _parity(known: dict[str, Path]) -> tuple[list[str], list[str]]:
    """The modules that are parity: those of a ``parity`` package and the command. And those outside that run
    it: what imports its loop, its comparison, its references or its bisection."""
    parity = [name for name in known if re.search(r"\.parity(\.|$)", name) and not _is_package(known[name])]
    doing = {name for name in parity if not name.endswith((".stage", ".table", ".page", ".charts"))}
    callers = [name for name, path in known.items() if name not in parity and imports(path, known) & doing]
    return parity, callers


def _is_package(path: Path) -> bool:
    return path.name == "__init__.py"


def _raises_parity_error(path: Path) -> bool:
    """Whether a module creates a ParityError; catching one, or naming it, is not counted."""
    calls = (
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
    )
    return any(ast.unparse(call.func).endswith("ParityError") for call in calls)


def report() -> dict[str, object]:
    """All figures."""
    known = modules()
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in known.items()}
    longest = max(lines, key=lambda name: lines[name])
    parity, callers = _parity(known)
    raising = [name for name, path in known.items() if _raises_parity_error(path)]
    return {
        "modules": len(known),
        "lines": sum(lines.values()),
        "longest": {longest: lines[longest]},
        "share_within_120_lines": round(sum(n <= TWO_SCREENS for n in lines.values()) / len(lines), 3),
        "package_cycles": cycles(package_graph()),
        "parity_files": parity,
        "parity_callers": callers,
        "raise_parity_error": raising,
    }


def main() -> int:
    """Print the figures, as JSON with ``--json``."""
    found = report()
    if "--json" in sys.argv[1:]:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name.replace('_', ' '):24} {len(value) if isinstance(value, list) else value}")
            if isinstance(value, list):
                print(*(f"    {entry}" for entry in value), sep="\n")
    return bool(found["package_cycles"])


if __name__ == "__main__":
    sys.exit(main())
