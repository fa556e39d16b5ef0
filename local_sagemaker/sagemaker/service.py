"""The SageMaker API as one `JsonService`: the handler of each operation.

An operation without a handler is refused, with its name in the error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from local_sagemaker.iam.roles import RoleTable
from local_sagemaker.job_faults import JobFaults
from local_sagemaker.job_table import JobTable
from local_sagemaker.jobs import Job
from local_sagemaker.kinds import KINDS
from local_sagemaker.sagemaker.job_operations import JobOperations
from local_sagemaker.sagemaker.quotas import Quotas
from local_sagemaker.sagemaker.search import Search
from local_sagemaker.sagemaker.tags import TagOperations
from local_sagemaker.wire.json_service import JsonService


def sagemaker_service(
    jobs: JobTable,
    faults: JobFaults,
    quotas: Callable[[], Mapping[str, int]],
    roles: RoleTable,
    start: Callable[[Job], object],
) -> JsonService:
    """Build the service.

    Args:
        jobs: the table of jobs.
        faults: the rules of faults, some of which are quotas.
        quotas: returns the account's quotas, by name.
        roles: the roles of the home.
        start: called with a new job after it was added to the table, to run it.
    """
    admission = Quotas(faults, quotas, jobs)
    operations = [JobOperations(kind, jobs, admission, roles, start) for kind in KINDS.values()]
    tags = TagOperations(jobs)
    handlers = {
        **{name: handler for each in operations for name, handler in each.handlers().items()},
        "AddTags": tags.add,
        "ListTags": tags.list,
        "DeleteTags": tags.delete,
        "Search": Search(jobs).search,
    }
    return JsonService("sagemaker", handlers)
