"""The reaper of `tasks_lib.orphans`, with the checkout's own Prefect and local SageMaker.

python -m flows.reap_orphans [--no-dry-run] [--project BLOCK]
"""

from __future__ import annotations

from flows.own_home import use_own_home, use_own_server

if __name__ == "__main__":  # before Prefect is imported: it reads its settings once
    import re
    import sys

    # The jobs of this machine belong to runs in the checkout's own Prefect; those of a saved block to the user's.
    NAMED = re.search(r" --project[= ](\S+)", " ".join(sys.argv))
    SERVER = use_own_server(use_own_home()) if NAMED is None or NAMED[1] == "local" else None

from tasks_lib.orphans.reap_orphans import main, reap_orphans

__all__ = ["reap_orphans"]  # the entry point of deployments that were made before the flow moved

if __name__ == "__main__":
    if SERVER:
        SERVER.wait_until_up()
    raise SystemExit(main(program="python -m flows.reap_orphans"))
