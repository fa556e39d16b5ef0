"""A scan for the uses of private parts of Prefect in the source.

It finds an import from a module that is not in `PUBLIC`, and a dotted name under such a module. It finds an attribute
or an argument with a leading underscore, a private name of a base class of Prefect, and a variable `PREFECT__…`. It
also finds three ways around an interface: `model_construct`, `__code__` and an assigned `__class__`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
FOLDERS = ("blocks", "tasks_lib", "flows")

PUBLIC = {
    "prefect",
    "prefect.artifacts",
    "prefect.blocks.core",
    "prefect.cache_policies",
    "prefect.client.orchestration",
    "prefect.client.schemas.actions",
    "prefect.client.schemas.filters",
    "prefect.client.schemas.objects",
    "prefect.client.schemas.responses",
    "prefect.client.schemas.sorting",
    "prefect.context",
    "prefect.exceptions",
    "prefect.futures",
    "prefect.logging",
    "prefect.settings",
    "prefect.states",
    "prefect.task_runners",
    "prefect.utilities.annotations",
}
"""The modules that Prefect documents for flows, tasks, blocks and clients. Other modules need a row in the table."""

NOT_PREFECTS = {
    "_SubParsersAction": "argparse's",
    "_abc_impl": "abc's",
    "_block_type_name": "documented for blocks",
    "_block_type_slug": "documented for blocks",
    "_documentation_url": "documented for blocks",
    "_current_exceptions": "CPython's",
    "_current_frames": "CPython's",
    "_name": "typing's",
    "_replace": "a named tuple's",
    "_repr_html_": "IPython's",
}


def sources() -> Iterator[Path]:
    """Yield the files to scan."""
    for folder in FOLDERS:
        yield from sorted((CHECKOUT / folder).rglob("*.py"))


def private_uses(source: str) -> set[str]:
    """Return the private parts of Prefect that a module names, as written there.

    Args:
        source: The module's text.
    """
    tree = ast.parse(source)
    found: set[str] = set()
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "prefect":
            imported |= {alias.asname or alias.name for alias in node.names}
            found |= {f"{node.module}.{each.name}" for each in node.names if _is_private_import(node, each)}
    for node in ast.walk(tree):
        found |= _of_node(node, imported)
    # A use of `prefect.task_engine.run_task` includes one of `prefect.task_engine`.
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}


def _is_private_import(node: ast.ImportFrom, alias: ast.alias) -> bool:
    return node.module not in PUBLIC or alias.name.startswith("_")


def _of_node(node: ast.AST, imported: set[str]) -> set[str]:
    if isinstance(node, ast.Attribute):
        return _of_attribute(node, imported)
    if isinstance(node, ast.keyword) and node.arg:
        return {node.arg} if _is_private(node.arg) else set()
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"getattr", "setattr"}:
        name = node.args[1]
        return {name.value} if isinstance(name, ast.Constant) and _is_private(name.value) else set()
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("PREFECT__"):
        return {node.value}
    return set()


def _of_attribute(node: ast.Attribute, imported: set[str]) -> set[str]:
    path, root = _dotted(node)
    if root == "prefect":
        return {path} if path.rpartition(".")[0] not in PUBLIC and path not in PUBLIC else set()
    if node.attr == "model_construct":
        return {node.attr}
    if node.attr.startswith("__"):
        from_prefect = root in imported and node.attr == "__code__"
        assigned = isinstance(node.ctx, ast.Store) and node.attr == "__class__"
        return {node.attr} if from_prefect or assigned else set()
    is_own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
    return {node.attr} if _is_private(node.attr) and not is_own and not _is_super(node.value) else set()


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in NOT_PREFECTS


def _dotted(node: ast.AST) -> tuple[str, str | None]:
    """Return the path of an attribute and the name it begins with; None if it begins with an expression."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    root = node.id if isinstance(node, ast.Name) else None
    return ".".join([root or "", *reversed(names)]), root


def _is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def private_names_of_bases(path: Path) -> set[str]:
    """Return the private names that the classes of a module share with their Prefect base classes.

    Args:
        path: The module's file.
    """
    if not re.search(r"^from prefect.*^class ", path.read_text(), re.MULTILINE | re.DOTALL):
        return set()
    module = importlib.import_module(
        ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")
    )
    ours = [each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__]
    return {
        name
        for each in ours
        for base in each.__mro__
        if base.__module__.partition(".")[0] == "prefect"
        for name in _private_names(each) & (_private_names(base) | {name for name in vars(base) if _is_private(name)})
    }


def _private_names(kind: type) -> set[str]:
    """Return the names that a class body defines, and the attributes that its methods access on `self` or `cls`.

    It reads the source, because attributes that a class gets later, such as the ids of a saved block, depend on which
    tests
    ran before.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
    targets = [target for node in body for target in getattr(node, "targets", [getattr(node, "target", None)])]
    defined = {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    defined |= {target.id for target in targets if isinstance(target, ast.Name)}
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
    }
    return {name for name in used | defined if _is_private(name)}
