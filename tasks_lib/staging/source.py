"""The code of a job: its files, their digest, and the archives that carry them to S3.

The digest is taken over the files and not over the archive, so another gzip or a new time stamp never runs a job again.
The worker toolkit goes along as files; of its modules only the contract is imported here.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import os
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache
from pathlib import Path

from pathspec import GitIgnoreSpec

from tasks_lib.aws.sync import hash_file
from tasks_lib.errors import InputsChanged, InvalidTask, MissingPath
from tasks_lib.jobs.manifest import Item, Manifest
from tasks_lib.jobs.naming import check_file_name
from worker_toolkit.contract import CONTRACT_VERSION, STARTER

IGNORE_FILE = ".sagemakerignore"
ALWAYS_IGNORED = (
    ".git/",
    ".hg/",
    ".svn/",
    "__pycache__/",
    "*.py[co]",
    ".ipynb_checkpoints/",
    ".DS_Store",
    ".venv/",
    "venv/",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
    IGNORE_FILE,
)
"""Files of editors, interpreters and version control, which would change the fingerprint and run a job again."""

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can store
_MAIN = "from worker_toolkit.bootstrap import main\n\nraise SystemExit(main())\n"


INCLUDE = "#!include:"
"""Starts a line of `.sagemakerignore` that includes another file's lines, as in Google's `.gcloudignore`."""


SECRET_FILES = (
    # environments, but not their templates
    *(".env", ".env.*", "*.env", "!.env.example", "!.env.sample", "!.env.template", "!.env.dist"),
    # keys and certificates
    *("*.pem", "*.key", "*.ppk", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk"),
    # what command-line tools keep in a home directory
    *(".aws/", ".ssh/", ".gnupg/", ".kube/", ".azure/", ".gcloud/", ".docker/config.json", ".kaggle/"),
    *(".netrc", "_netrc", ".pgpass", ".my.cnf", ".pypirc", ".npmrc", ".git-credentials", ".htpasswd", ".vault-token"),
    *("credentials.json", "service-account*.json", "application_default_credentials.json"),
    *("*.tfstate", "*.tfstate.*", "secrets.toml", "secrets.yaml", "secrets.yml", "secrets.json"),
)
"""Patterns in the syntax of `.gitignore`."""

_SECRET = GitIgnoreSpec.from_lines(SECRET_FILES)
_MOST_NAMED = 5


def looks_secret(name: str) -> bool:
    """Return whether the name of a file, or of a directory if it ends in `/`, suggests secrets.

    Args:
        name: Relative, with `/`.
    """
    return _SECRET.match_file(name)


def named(names: Iterable[str]) -> str:
    """Return the first five names in one line, and how many more there are."""
    found = list(names)
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return ", ".join(found[:_MOST_NAMED]) + more


@dataclass(frozen=True)
class Source:
    """The user's files by their names below `/opt/ml/code`.

    Args:
        files: The local path of each.
        left_out: Names that were left out because they suggest secrets; a directory ends in `/`.
    """

    files: dict[str, Path]
    left_out: tuple[str, ...] = ()

    @classmethod
    def collect(
        cls, source_dir: Path | None, entry_point: str | None, dependencies: Sequence[str | Path] = ()
    ) -> tuple[Source, str | None]:
        """Collect the code of a job.

        Args:
            source_dir: Directory whose content becomes `/opt/ml/code`; None for a single file.
            entry_point: File to run: relative to `source_dir`, or a path of its own if that is None; None for no file.
            dependencies: Further files and directories, each placed beside the entry point under its own name; default
                none.

        Returns:
            The source, and the entry point's name in it.

        Raises:
            MissingPath: A path does not exist; the message has the absolute path.
            InvalidTask: Two different files would have the same name.
        """
        files: dict[str, Path] = {}
        left_out: list[str] = []
        if source_dir is not None:
            _add(files, _tree(_existing_directory(source_dir), left_out))
        name = _add_entry_point(files, source_dir, entry_point) if entry_point else None
        for dependency in map(Path, dependencies):
            _add(files, _named_tree(dependency, left_out))
        return cls(files, tuple(left_out)), name

    @cached_property
    def manifest(self) -> Manifest:
        """Names, executable flags and hashes of the files."""
        return Manifest({name: hash_file(path) for name, path in self.files.items()})

    def archive(self) -> bytes:
        """Return `source.tar.gz`; equal files give equal bytes.

        Raises:
            InputsChanged: A file has changed since its fingerprint was taken.
        """
        buffer = io.BytesIO()
        packed = gzip.GzipFile(filename="", fileobj=buffer, mode="wb", mtime=0, compresslevel=6)
        with packed, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, item in self.manifest:
                member = tarfile.TarInfo(name)
                member.size, member.mode = item.size, 0o755 if item.executable else 0o644
                tar.addfile(member, io.BytesIO(self._unchanged(name, item)))
        return buffer.getvalue()

    def _unchanged(self, name: str, item: Item) -> bytes:
        content = self.files[name].read_bytes()
        if hashlib.sha256(content).hexdigest() != item.digest:
            raise InputsChanged(
                f"{self.files[name].absolute()} was changed while its task was being prepared.", fix="run again."
            )
        return content


@dataclass(frozen=True)
class Toolkit:
    """The worker toolkit as it is sent: its start script and its zipped package."""

    starter: bytes
    package: bytes
    contract: int

    @property
    def digest(self) -> str:
        """SHA-256 over both files."""
        return hashlib.sha256(self.starter + self.package).hexdigest()


@lru_cache(maxsize=1)
def toolkit() -> Toolkit:
    """Return the toolkit that is installed with this package; zipped once per process.

    Raises:
        InvalidTask: Another package named `worker_toolkit` shadows it.
    """
    folder = _toolkit_folder()
    package = {f"worker_toolkit/{path.name}": path.read_bytes() for path in sorted(folder.glob("*.py"))}
    return Toolkit(
        starter=(folder / STARTER).read_bytes(),
        package=_zip({"__main__.py": _MAIN.encode(), **package}),
        contract=CONTRACT_VERSION,
    )


def bundle_digest(source: Source) -> str:
    """Return the name of a bundle: a hash of the user's files and the toolkit."""
    return hashlib.sha256(f"{source.manifest.digest}\n{toolkit().digest}".encode()).hexdigest()[:32]


def _toolkit_folder() -> Path:
    found = importlib.util.find_spec("worker_toolkit")
    folder = Path(found.origin).parent if found and found.origin else Path()
    if not (folder / STARTER).is_file():
        raise InvalidTask(
            f"The package worker_toolkit of prefect-sagemaker is not importable; found {folder.absolute()} instead.",
            fix="rename your own module worker_toolkit, or install prefect-sagemaker again.",
        )
    return folder


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in sorted(files.items()):
            packed.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _add(files: dict[str, Path], found: Iterator[tuple[str, Path]]) -> None:
    for name, path in found:
        if name in files and files[name].resolve() != path.resolve():
            raise InvalidTask(
                f"{path.absolute()} and {files[name].absolute()} would both become /opt/ml/code/{name}.",
                fix="rename one of them.",
            )
        files[name] = path


def _add_entry_point(files: dict[str, Path], source_dir: Path | None, entry_point: str) -> str:
    if source_dir is None:
        path = Path(entry_point)
        _check_file(path)
        _check_line_ends(path)
        _add(files, iter([(path.name, path)]))
        return path.name
    path = source_dir / entry_point
    name = Path(os.path.relpath(path, source_dir)).as_posix()
    if name not in files:
        raise _not_shipped(path, name, source_dir, files)
    _check_line_ends(path)
    return name


def _check_line_ends(script: Path) -> None:
    """Refuse a shell script with CRLF line ends: a shell reads the CR as part of each line's last word."""
    if script.suffix == ".sh" and b"\r\n" in script.read_bytes():
        raise InvalidTask(
            f"The script {script.absolute()} has line ends of Windows (CRLF), which a shell takes for part of a line.",
            fix=f"save it with line ends of Unix, for example by `sed -i 's/\\r$//' {script.name}`.",
        )


def _not_shipped(path: Path, name: str, source_dir: Path, files: Iterable[str]) -> MissingPath:
    where = f"give a path relative to source_dir, {source_dir.absolute()}"
    if not path.is_file():
        meant = [file for file in files if name.endswith(f"/{file}")] or get_close_matches(name, files, n=1)
        why, fix = "does not exist", f"{where}: {meant[0]!r}?" if meant else f"{where}."
    elif name.startswith("../"):
        why, fix = "lies outside of the source", f"{where}."
    else:
        why, fix = "is ignored", f"`!{name}` in {IGNORE_FILE} sends it."
    return MissingPath(f"The entry point {path.absolute()} {why}.", fix=fix)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise MissingPath(
            f"The entry point {path.absolute()} does not exist.",
            fix=f"give a file; relative paths start at {Path.cwd()}.",
        )


def _existing_directory(path: Path) -> Path:
    if not path.is_dir():
        raise MissingPath(
            f"The source directory {path.absolute()} does not exist.",
            fix=f"give a directory; relative paths start at {Path.cwd()}.",
        )
    return path


def _named_tree(path: Path, left_out: list[str]) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        return iter([(path.name, path)])
    if not path.is_dir():
        raise MissingPath(
            f"The dependency {path.absolute()} does not exist.",
            fix=f"give a file or a directory; relative paths start at {Path.cwd()}.",
        )
    return ((f"{path.resolve().name}/{name}", file) for name, file in _tree(path, left_out))


def _tree(root: Path, left_out: list[str]) -> Iterator[tuple[str, Path]]:
    """Yield the files below a directory that are not ignored. Add to `left_out` the names that suggest secrets."""
    return _walk(root, Path(), _Rules(_ignore_lines(root), left_out), frozenset())


def _ignore_lines(root: Path) -> list[str]:
    """Return the lines of the root's `.sagemakerignore`, and of the files that it includes.

    Raises:
        MissingPath: It includes a file that does not exist.
    """
    own = root / IGNORE_FILE
    lines: list[str] = []
    for line in own.read_text().splitlines() if own.is_file() else ():
        if not line.startswith(INCLUDE):
            lines.append(line)
            continue
        included = root / line.removeprefix(INCLUDE).strip()
        if not included.is_file():
            raise MissingPath(
                f"{own.absolute()} includes {included.absolute()}, which does not exist.",
                fix=f"correct the line {line!r}, or remove it.",
            )
        lines += included.read_text().splitlines()
    return lines


class _Rules:
    """Patterns of the files to leave out: those always ignored, those that suggest secrets, and the user's.

    The last pattern that matches decides, as in `.gitignore`. So the user's lines may bring back what the others leave
    out.

    Args:
        lines: The user's patterns.
        left_out: Receives the names that only the patterns of secrets left out.
    """

    def __init__(self, lines: Sequence[str], left_out: list[str]) -> None:
        self._all = GitIgnoreSpec.from_lines([*ALWAYS_IGNORED, *SECRET_FILES, *lines])
        self._but_secrets = GitIgnoreSpec.from_lines([*ALWAYS_IGNORED, *lines])
        self._left_out = left_out

    def leave_out(self, name: str) -> bool:
        """Return whether a file, or a directory whose name ends in `/`, is left out."""
        out = self._all.match_file(name)
        if out and not self._but_secrets.match_file(name):
            self._left_out.append(name)
        return out


def _walk(folder: Path, below: Path, rules: _Rules, above: frozenset[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the files below a directory. Links are followed, except those back to a directory above."""
    here = above | {folder.resolve()}
    for path in sorted(folder.iterdir()):
        name = (below / path.name).as_posix()
        if path.is_dir():
            out = rules.leave_out(f"{name}/") or (path / "pyvenv.cfg").is_file() or path.resolve() in here
            yield from () if out else _walk(path, below / path.name, rules, here)
        elif path.is_file() and not rules.leave_out(name):
            yield check_file_name(name, folder), path
