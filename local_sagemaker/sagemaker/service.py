"""The SageMaker API of this backend as one `JsonService`: which operation is answered by whom.

What stands in no table here does not exist, and the client is told so by name.
"""

from __future__ import annotations

from collections.abc import Callable

from local_sagemaker.faults.table import FaultTable
from local_sagemaker.job_table import JobTable
from local_sagemaker.jobs import Job
from local_sagemaker.sagemaker.job_operations import JobOperations
from local_sagemaker.sagemaker.kinds import PROCESSING, TRAINING
from local_sagemaker.sagemaker.quotas import Quotas
from local_sagemaker.sagemaker.search import Search
from local_sagemaker.sagemaker.tags import TagOperations
from local_sagemaker.wire.json_service import JsonService


def sagemaker_service(jobs: JobTable, faults: FaultTable, start: Callable[[Job], object]) -> JsonService:
    """Build the service.

    Args:
        jobs: the table of jobs.
        faults: the rules, some of which are quotas.
        start: called after a job is in the table, so that it begins to run.
    """
    quotas = Quotas(faults, jobs)
    training = JobOperations(TRAINING, jobs, quotas, start)
    processing = JobOperations(PROCESSING, jobs, quotas, start)
    tags = TagOperations(jobs)
    handlers = {
        **training.handlers(),
        **processing.handlers(),
        "AddTags": tags.add,
        "ListTags": tags.list,
        "DeleteTags": tags.delete,
        "Search": Search(jobs).search,
    }
    return JsonService("sagemaker", handlers)
