"""The command line `ssm`, also `python -m tasks_lib`, for use in a user's own repository.

`commands` parses and prints. `init`, `policy`, `quotas` and `schedules` are the commands. `repository` writes what
`init` makes, from the files in `templates`.
"""

from tasks_lib.cli.commands import main

__all__ = ["main"]
