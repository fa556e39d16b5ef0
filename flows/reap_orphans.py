"""The reaper of `tasks_lib.orphans`, with this checkout's own Prefect and local SageMaker.

python -m flows.reap_orphans [--no-dry-run] [--project BLOCK]
"""

from __future__ import annotations

from flows.own_home import use_own_home, use_own_server

if __name__ == "__main__":  # before Prefect is imported, because it reads its settings once
    import re
    import sys

    # Jobs on this machine belong to runs in the checkout's own Prefect, jobs of a saved block to the user's Prefect.
    NAMED = re.search(r" --project[= ](\S+)", " ".join(sys.argv))
    SERVER = use_own_server(use_own_home()) if NAMED is None or NAMED[1] == "local" else None

from tasks_lib.orphans.reap_orphans import main, reap_orphans

__all__ = ["reap_orphans"]  # the entry point of deployments from before the flow moved to `tasks_lib`

if __name__ == "__main__":
    if SERVER:
        SERVER.wait_until_up()
    raise SystemExit(main(program="python -m flows.reap_orphans"))
