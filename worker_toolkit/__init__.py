"""The worker toolkit, sent into every SageMaker job: it unpacks the code, sets the variables and starts the script.

It needs only the standard library of Python 3.8, and has only relative imports, so that the folder can be copied
anywhere. Importing it has no side effects. `tasks_lib/staging` sends it as files. In the job, `start.sh` starts
`bootstrap`, and the user's code may use `from worker_toolkit import worker_lib`. Any version of Python can parse this
file, so that an old one raises the error below.
"""

import sys

if sys.version_info < (3, 8):  # noqa: UP036  an old image runs this line
    raise ImportError(
        "worker_toolkit needs Python 3.8 or newer: take an image that has it. This is Python " + sys.version.split()[0]
    )
