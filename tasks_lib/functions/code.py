"""The code of a function task: the files that the job needs to import the function, and no others.

The function's own module is sent, or its whole package. The folder of a script is not: it may hold anything, and every
file that is sent enters the fingerprint. A helper module has to be declared. A missing one is found here, before a job
is paid for.
"""

from __future__ import annotations

import ast
import dis
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from tasks_lib.errors import InvalidTask
from tasks_lib.staging.source import Source

REQUIREMENTS = "requirements.txt"
_SERVED_IN_JOB = ("blocks", "prefect", "prefect_aws", "tasks_lib")  # by `worker_toolkit.stand_ins`

# Both texts enter the fingerprint of every function task: any change runs all of them again.
_SCRIPT = "from worker_toolkit.function import run\n\nrun({arguments})\n"
_TYPED_IN = "from __future__ import annotations\n\n{imports}\n\n{source}\n"


@dataclass(frozen=True)
class FunctionCode:
    """A function and the code that the job needs for it.

    Args:
        function: The function as its author wrote it.
        file: The file that defines it; None if it was typed into a notebook.
    """

    function: Callable[..., Any]
    file: Path | None

    @classmethod
    def of(cls, function: Any) -> FunctionCode:
        """Return the code of a function.

        Raises:
            InvalidTask: A job could not find it by its name: a lambda, a method, a nested function or a generator.
        """
        if not inspect.isfunction(function):
            raise InvalidTask(f"{function!r} is not a Python function.", fix="decorate a function made with `def`.")
        _check_it_can_be_found(function)
        # Absolute now, since a relative path is lost after a later `chdir`.
        file = Path(inspect.unwrap(function).__code__.co_filename).absolute()
        return cls(function, file if file.is_file() else None)

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__

    @property
    def module(self) -> str:
        """The module's name in the job: dotted in a package, else that of its file, or of a notebook's function."""
        if self.file is None:
            return f"{self.name}_function"
        if self._root is None:
            return re.sub(r"\W", "_", self.file.stem)
        parts = self.file.relative_to(self._root.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def folder(self) -> Path:
        """The folder to which the decorator's paths are relative."""
        return self.file.parent if self.file else Path.cwd()

    @property
    def _root(self) -> Path | None:
        """The folder of the outermost package that contains the module; None if it is in no package."""
        assert self.file is not None
        if package := _outermost_package(self.file.parent):
            return package
        *above, _ = self.function.__module__.split(".")
        named = self.file.parents[len(above) - 1] if above and len(above) <= len(self.file.parts) else None
        # A package without `__init__.py` is recognised only if the module was imported by a dotted name.
        found = named is not None and self.file.parts[-len(above) - 1 : -1] == tuple(above)
        return named if found else None

    def lay_out(
        self,
        folder: Path,
        *,
        requirements: Sequence[str],
        source_dir: str | Path | None,
        dependencies: Sequence[str | Path],
        serializer: str,
    ) -> str:
        """Put all files of the job into an empty folder, the user's as links; return the entry point's name in it.

        Args:
            folder: The folder.
            requirements: Lines of `requirements.txt`.
            source_dir: Directory whose content is sent as well; None for none.
            dependencies: Further files and directories, each under its own name.
            serializer: `json` or `pickle`.

        Raises:
            MissingPath: A path does not exist.
            InvalidTask: Two files would have the same name, or the job would lack a helper module.
        """
        more = [self.folder / each for each in dependencies]
        extras, _ = Source.collect(self.folder / source_dir if source_dir is not None else None, None, more)
        files = _together(extras.files, self._own_files())
        if self.file is not None and self._root is None:
            _check_helpers(self.file, files)
        made = dict(self._made(requirements, serializer))
        if twice := sorted(made.keys() & files.keys()):
            raise InvalidTask(
                f"The task {self.name!r} makes a file {twice[0]!r}, and ships {files[twice[0]].absolute()} too.",
                fix="rename yours." if twice[0] != REQUIREMENTS else "give requirements=[…] or that file, not both.",
            )
        for name, path in files.items():
            _target(folder, name).symlink_to(path.absolute())
        for name, text in made.items():
            _target(folder, name).write_text(text, encoding="utf-8")
        return self._script

    @property
    def _script(self) -> str:
        return f"run_{self.name}.py"

    def _own_files(self) -> dict[str, Path]:
        if self.file is None:
            return {}
        if self._root is None:
            return {f"{self.module}.py": self.file}
        return Source.collect(None, None, [self._root])[0].files

    def _made(self, requirements: Sequence[str], serializer: str) -> Iterator[tuple[str, str]]:
        arguments = [self.module, self.name, *([serializer] if serializer != "json" else [])]
        yield self._script, _SCRIPT.format(arguments=", ".join(f'"{each}"' for each in arguments))
        if requirements:
            yield REQUIREMENTS, "".join(f"{line}\n" for line in requirements)
        if self.file is None:
            yield f"{self.module}.py", notebook_source(self.function)


def notebook_source(function: Callable[..., Any]) -> str:
    """Return a module with one function that was typed into a notebook, and the imports that it needs.

    Raises:
        InvalidTask: Its source is not available, it has other decorators, or it uses names of the notebook that are not
            imports.
    """
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as error:
        raise _cannot_leave(function, "its text is not known: it was typed in at a prompt") from error
    node = syntax_tree(source).body[0]
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or len(node.decorator_list) > 1:
        raise _cannot_leave(function, "it has other decorators")
    text = "\n".join(source.splitlines()[node.lineno - 1 :])
    used = sorted(
        {*_loaded(function.__code__), *_in_signature(node)} & function.__globals__.keys() - {function.__name__}
    )
    lines = [_import_of(function, name, function.__globals__[name]) for name in used]
    return _TYPED_IN.format(imports="\n".join(lines), source=text)


def _loaded(code: CodeType) -> Iterator[str]:
    """Yield the global names that a function's code reads."""
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _loaded(constant)


def _in_signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Yield the names in annotations and defaults; an annotation may be a string."""
    for each in filter(None, (node.args, node.returns)):
        for found in ast.walk(each):
            if isinstance(found, ast.Name):
                yield found.id
            elif isinstance(found, ast.Constant) and isinstance(found.value, str):
                yield from re.findall(r"[^\W\d]\w*", found.value)


def _import_of(function: Callable[..., Any], name: str, value: Any) -> str:
    if isinstance(value, ModuleType):
        return f"import {value.__name__} as {name}"
    module, known_as = getattr(value, "__module__", None) or "", getattr(value, "__qualname__", None)
    for place, attribute in (
        (module.partition("._")[0], known_as),  # `pathlib` for `pathlib._local`, which only Python 3.13 has
        (module, known_as),
        (typing.__name__, getattr(value, "_name", None)),  # `Any`, `Optional` and the like
    ):
        if place != "__main__" and attribute and getattr(sys.modules.get(place), attribute, None) is value:
            return f"from {place} import {attribute} as {name}"
    raise _cannot_leave(function, f"it uses {name!r} of the notebook, a {type(value).__name__}")


def _cannot_leave(function: Callable[..., Any], why: str) -> InvalidTask:
    return InvalidTask(
        f"The function {function.__name__}() is in no file, and cannot travel alone: {why}.",
        fix="put it into a .py file and import it, or pass what it needs as arguments; imports may stay outside.",
    )


def _check_it_can_be_found(function: Callable[..., Any]) -> None:
    name = function.__qualname__
    wrong = (
        ("is a lambda", "<lambda>" in name),
        ("is defined inside another function", "<locals>" in name),
        ("is a method", "." in name),
        ("is a generator", inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)),
    )
    for what, is_so in wrong:
        if is_so:
            raise InvalidTask(
                f"{name} {what}; a job finds a function by its module and name, and keeps what it returns.",
                fix="write it with `def` at the top of a file, and `return` a value.",
            )


def _outermost_package(folder: Path) -> Path | None:
    """Return the outermost package that a folder is in, which may be itself; None if it is not a package."""
    if not (folder / "__init__.py").is_file():
        return None
    return _outermost_package(folder.parent) or folder


def _together(first: Mapping[str, Path], second: Mapping[str, Path]) -> dict[str, Path]:
    for name in first.keys() & second.keys():
        if first[name].resolve() != second[name].resolve():
            raise InvalidTask(
                f"{first[name].absolute()} and {second[name].absolute()} would both become /opt/ml/code/{name}.",
                fix="rename one of them.",
            )
    return {**first, **second}


def _check_helpers(file: Path, files: Mapping[str, Path]) -> None:
    """Refuse a module that imports a neighbouring module at its top which is not sent."""
    shipped = {name.partition("/")[0] for name in files}
    for name in sorted(set(_imported(syntax_tree(file.read_bytes())))):
        helper = next((each for each in (f"{name}.py", name) if _is_module(file.parent / each)), None)
        if helper and helper not in shipped and name not in _SERVED_IN_JOB:
            raise InvalidTask(
                f"{file.name} imports {name}, and {file.parent / helper} does not travel into the job.",
                fix=f"add dependencies=[{helper!r}] to @sagemaker_task; only the function's own file goes by itself.",
            )


def _imported(tree: ast.Module) -> Iterator[str]:
    """Yield the packages that a module always imports: not below an `if`, a `try` or a function."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _is_module(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and next(path.glob("*.py"), None) is not None)


def _target(folder: Path, name: str) -> Path:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


_TRIES = 20


def syntax_tree(source: str | bytes) -> ast.Module:
    """Return the syntax tree of a module's source, as `ast.parse` does.

    Raises:
        SyntaxError: It is not valid Python.
    """
    # Python 3.10 to 3.12 count the tree's depth once for all threads. If another thread parses meanwhile (formatting a
    # traceback does, too), the count is wrong, and a valid tree raises `SystemError` (CPython issue 106905).
    for _ in range(_TRIES - 1):
        try:
            return ast.parse(source)
        except SystemError:  # noqa: PERF203 -- each try may collide with another thread
            continue
    return ast.parse(source)
