"""Known causes of failures of a job's own code, each with its fix. Pure.

Each row has a section in `docs/troubleshooting.md`; a test compares the table with the page. Failures of AWS or of the
instances are in `error_categories.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

PAGE = "docs/troubleshooting.md"


@dataclass(frozen=True)
class KnownCause:
    """A cause that is recognised by the job's words or its exit code.

    Args:
        section: Heading of its section on the page.
        pattern: Regular expression that is searched for in the reason and the last lines. Its groups fill the fix.
        fix: What to do, with the names of groups in braces.
        exit_codes: Exit codes that mean this cause without the pattern; by default none.
    """

    section: str
    pattern: str
    fix: str
    exit_codes: tuple[int, ...] = ()

    def fix_for(self, texts: Iterable[str], exit_code: int | None) -> str | None:
        """Return the fix with a link to the page; None if this is not the cause."""
        found = next((match for text in texts if (match := re.search(self.pattern, text))), None)
        if found is None and exit_code not in self.exit_codes:
            return None
        groups = found.groupdict("") if found else {}
        return f"{self.fix.format(**groups)}\nMore: {PAGE}#{self.anchor}"

    @property
    def anchor(self) -> str:
        """The anchor that GitHub and MyST make of the section's heading."""
        return re.sub(r"[^\w\- ]", "", self.section.lower()).replace(" ", "-")


CAUSES = (
    KnownCause(
        "A file outside of the code",
        r"entry point (?P<file>'[^']*') is not in the code"
        r"|can't open file '(/opt/ml/code/)?(?P<opened>[^']*)': \[Errno 2\]",
        "name {file}{opened} relative to source_dir, or in files=[…] of sm.shell, and see that .sagemakerignore does "
        "not leave it out.",
    ),
    KnownCause(
        "Packages that could not be installed",
        r"requirements\.txt could not be installed",
        "correct requirements.txt by what pip says; without a way to a package index, ship a wheelhouse/.",
    ),
    KnownCause(
        "A notebook without papermill",
        r"needs papermill or jupyter nbconvert",
        "add papermill to requirements.txt or to the image.",
    ),
    KnownCause(
        "A missing package",
        r"No module named (?P<module>'[^']*'|\S+)",
        "add the package of {module} to requirements.txt or to the image; if it is a file of yours, put it into "
        "source_dir or dependencies.",
    ),
    KnownCause(
        "A missing channel",
        r"KeyError: 'SM_CHANNEL_(?P<channel>\w+)'|SM_CHANNEL_(?P<unbound>\w+): (unbound variable|parameter not set)",
        "give the task the input that SM_CHANNEL_{channel}{unbound} stands for, or read the variable of one that it "
        "has: an input 'train' is SM_CHANNEL_TRAIN.",
    ),
    KnownCause(
        "An unknown argument",
        r"error: unrecognized arguments: (?P<argument>[^\s=]+)",
        "add {argument} to the program's argparse, or read the arguments with parse_known_args(); each hyperparameter "
        "is an argument.",
    ),
    KnownCause(
        "A missing argument",
        r"error: the following arguments are required: (?P<argument>.+)",
        "give the task what {argument} needs, in hyperparameters={{…}} or arguments=[…], or give it a default in the "
        "program's argparse.",
    ),
    KnownCause(
        "An archive that cannot be unpacked",
        r"is not a valid tarball|is refused, and nothing of it was unpacked|has a file where it also has a directory"
        r"|has a name that is too long for this disk",
        "let the step that made the archive run again (rerun='always'), or upload it again; without extract=True the "
        "job gets it as it is.",
    ),
    KnownCause(
        "A syntax error",
        r"\b(SyntaxError|IndentationError|TabError): ",
        "correct the line that the traceback names; if it runs here, the image has an older Python.",
    ),
    KnownCause(
        "A full disk",
        r"No space left on device|exceeds? its VolumeSizeInGB",
        "raise volume_size_gb, or write less.",
    ),
    KnownCause(
        "A missing permission",
        r"is not authorized to perform: (?P<action>[\w:*]+)",
        "give the role of the jobs the permission {action}: compare it with `ssm policy job`.",
    ),
    KnownCause(
        "An image that cannot be started",
        r"CannotPull|(?i:cannot pull|could not pull|pull access denied|exec format error|manifest unknown)",
        "see that the image exists in the project's region, that the role may pull it, and that it is built for the "
        "processor of the instance type.",
    ),
    KnownCause(
        "An image without Python",
        r"(?P<program>python3?): (command )?not found",
        "use an image that has {program} on its PATH; any with Python 3.8 or newer will do.",
    ),
    KnownCause(
        "A literal /opt/ml on this machine",
        r"No such file or directory: '/opt/ml",
        "read the path from the SM_* variables, such as $SM_MODEL_DIR; this machine may have no /opt/ml.",
    ),
    KnownCause(
        "An input that only AWS has",
        r"cannot be given to a job on this machine",
        "read the input from S3 in File or FastFile mode, or run the step in a project on AWS.",
    ),
    KnownCause(
        "Out of memory",
        r"MemoryError|CUDA out of memory|SIGKILL|OutOfMemory",
        "use an instance type with more memory, or load less at once: a program that takes too much is killed.",
        exit_codes=(137,),
    ),
    KnownCause(
        "A program that could not be started",
        r"\bthe bootstrap on algo-\d+ of \d+ ",
        "correct what the message says: it happened before your program was started.",
    ),
)
"""The known causes. The first one that fits counts."""


def known_fix(texts: Iterable[str], exit_code: int | None) -> str | None:
    """Return the fix for a job whose code failed; None if its cause is not known.

    Args:
        texts: The job's cause, reason and last lines.
        exit_code: Exit code of the job's program; None if unknown.
    """
    said = list(texts)
    fixes = (row.fix_for(said, exit_code) for row in CAUSES)
    return next((fix for fix in fixes if fix), None)
