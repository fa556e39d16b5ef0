"""The environment variables of a container. The configuration files differ by job kind and are in `kinds/`."""

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
    """Return the whole environment of a host's command; it inherits nothing from the supervisor.

    Args:
        job: the job.
        plan: its runtime spec; the variables of the request override the ones set here.
        home: a private directory for `HOME`, empty at the start, because the user's own holds credentials.
        endpoint: the local endpoint for AWS clients; None if the home has none.
        keys: temporary credentials of the job's role, never the home's own.
    """
    region = job.arn.split(":")[3]
    variables = {
        # The Python that runs this server stands in for the image. It is first on PATH, as `python` is in an image.
        "PATH": f"{os.path.dirname(sys.executable)}:{_SYSTEM_PATH}",  # noqa: PTH120 -- a string for PATH
        "HOME": home,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        # AWS's deep learning containers set this too: each line reaches the log when it is printed.
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
