"""The command line `ssm`, also `python -m tasks_lib`: what one types in a repository of one's own.

`commands` parses and prints, `init` and `policy` are the commands, `repository` is what `init` makes, `templates` are
its files.
"""

from tasks_lib.cli.commands import main

__all__ = ["main"]
