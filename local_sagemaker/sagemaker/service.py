"""The SageMaker API of this backend as one `JsonService`: which operation is answered by whom.

What stands in no table here does not exist, and the client is told so by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from local_sagemaker.faults.table import FaultTable
from local_sagemaker.iam.roles import RoleTable
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
    faults: FaultTable,
    quotas: Callable[[], Mapping[str, int]],
    roles: RoleTable,
    start: Callable[[Job], object],
) -> JsonService:
    """Build the service.

    Args:
        jobs: the table of jobs.
        faults: the rules, some of which are quotas.
        quotas: tells the account's quotas, by name.
        roles: those of the home.
        start: called after a job is in the table, so that it begins to run.
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
