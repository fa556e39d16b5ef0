"""The environment of a container. Its configuration files differ by kind (`kinds/`)."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from local_sagemaker.kinds import KINDS

if TYPE_CHECKING:
    from local_sagemaker.jobs import Job
    from local_sagemaker.keys import Keys
    from local_sagemaker.runtime.runtime_spec import RuntimeSpec

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(job: Job, plan: RuntimeSpec, *, home: str, endpoint: str | None, keys: Keys) -> dict[str, str]:
    """Return all that a host's command finds in its environment; nothing of the caller's is passed on.

    Args:
        job: the job.
        plan: its plan; the request's variables win over ours.
        home: a private, empty directory for `HOME`, since credentials lie in the real one.
        endpoint: the local endpoint for AWS clients; None while there is none.
        keys: temporary ones of the job's role; never the home's own.
    """
    region = job.arn.split(":")[3]
    variables = {
        # The runner's "image" is the Python that runs this server; it comes first, under the names images give it.
        "PATH": f"{os.path.dirname(sys.executable)}:{_SYSTEM_PATH}",  # noqa: PTH120 -- a string for PATH
        "HOME": home,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        # As AWS's deep learning containers have it: lines reach the log when they are printed.
        "PYTHONUNBUFFERED": "1",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.token,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if endpoint:
        variables["AWS_ENDPOINT_URL"] = endpoint
    return {**variables, **KINDS[job.kind].variables(job), **plan.environment}
