"""How far one call of a task runs through the code: files, calls and changes of file, for a job and for a skip.

    python benchmarks/path.py [--order] [--file NAME]

`sm.train` is called twice on a local SageMaker of its own; the second call is a skip. Counted are our own functions on
the main thread, as `sys.setprofile` sees them. Time is not: the profiler costs more than the code.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

_CHECKOUT = Path(__file__).resolve().parents[1]
_OURS = tuple(str(_CHECKOUT / package) for package in ("tasks_lib", "blocks", "worker_toolkit"))
_CODE = "import os; open(os.environ['SM_MODEL_DIR'] + '/model.txt', 'w').write('x'); print('auc=0.9')"


class Trail:
    """The function calls of one run.

    Attributes:
        calls: The number of function calls by file, in the order of the first calls.
        changes: How often a call was into another file than the call before.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.changes = 0
        self._last = ""

    def see(self, frame: FrameType, event: str, _: Any) -> None:
        """Count one event of the profiler."""
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(_OURS) and not frame.f_code.co_name.startswith("<"):
            self.calls[name] += 1
            self.changes += name != self._last
            self._last = name

    def __str__(self) -> str:
        return f"{len(self.calls):5} files {self.calls.total():6} calls {self.changes:6} changes of file"


def main() -> None:
    """Trace both calls and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--order", action="store_true", help="print the files in the order in which they are met")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {
            "PREFECT_HOME": f"{scratch}/prefect",
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
            "LOCAL_SAGEMAKER_HOME": f"{scratch}/sagemaker",
        }
        (Path(scratch) / "code").mkdir()
        (Path(scratch) / "code" / "fit.py").write_text(_CODE)
        (Path(scratch) / "data.csv").write_text("1\n2\n")
        try:
            for what, path in _traced(Path(scratch)):
                print(f"{what:<6}{path}")
                for name in path.calls if options.order else ():
                    print(f"        {path.calls[name]:5}  {Path(name).relative_to(_CHECKOUT)}")
        finally:
            subprocess.run([sys.executable, "-m", "local_sagemaker", "down"], check=True, capture_output=True)


def _traced(scratch: Path) -> list[tuple[str, Trail]]:
    from tasks_lib import sagemaker_tasks

    def call() -> Any:
        return sagemaker_tasks("local").train.fn(
            "fit",
            entry_point="fit.py",
            source_dir=scratch / "code",
            inputs={"data": scratch / "data.csv"},
            hyperparameters={"C": 0.1},
            metrics={"auc": "auc="},
        )

    sagemaker_tasks("local").project.client("s3")  # start the server and make the client before the measurement
    return [("job", _trace(call)), ("skip", _trace(call))]


def _trace(call: Callable[[], Any]) -> Trail:
    path = Trail()
    sys.setprofile(path.see)
    try:
        call()
    finally:
        sys.setprofile(None)
    return path


if __name__ == "__main__":
    main()
