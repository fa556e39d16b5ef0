"""The SageMaker API of this backend as one `JsonService`: which operation is answered by whom.

What stands in no table here does not exist, and the client is told so by name.
"""

from __future__ import annotations

from collections.abc import Callable

from local_sagemaker.jobs import JobTable, Kind
from local_sagemaker.sagemaker.job_operations import JobOperations
from local_sagemaker.sagemaker.kinds import PROCESSING, TRAINING
from local_sagemaker.sagemaker.search import Search
from local_sagemaker.sagemaker.tags import TagOperations
from local_sagemaker.wire.json_service import JsonService


def sagemaker_service(jobs: JobTable, start: Callable[[Kind, str], object]) -> JsonService:
    """Build the service.

    Args:
        jobs: the table of jobs.
        start: called after a job is in the table, so that it begins to run.
    """
    training = JobOperations(TRAINING, jobs, start)
    processing = JobOperations(PROCESSING, jobs, start)
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
