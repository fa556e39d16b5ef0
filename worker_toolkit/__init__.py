"""What travels into every SageMaker job: it unpacks the code, sets the documented variables and starts the script.

It stands on the standard library of Python 3.8, with relative imports only, so that the folder can be copied
anywhere; importing it changes nothing. `tasks_lib/staging` takes it along as files. In the job, `start.sh` starts
`bootstrap`, and the user's code may use `from worker_toolkit import worker_lib`. This file is plain enough for any
Python to read, so that an image with an old one is told what is wrong.
"""

import sys

if sys.version_info < (3, 8):  # noqa: UP036  an old image runs this line
    raise ImportError(
        "worker_toolkit needs Python 3.8 or newer: take an image that has it. This is Python " + sys.version.split()[0]
    )
