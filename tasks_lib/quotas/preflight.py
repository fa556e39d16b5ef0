"""Checks whether the account's quotas allow a job at all, before anything is created or uploaded.

A quota that is only used up at the moment is not checked here: then the create request is refused and retried. If the
quotas cannot be read, or AWS has none of that name, nothing is checked; SageMaker then decides.

"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blocks import SageMakerProject
from tasks_lib.aws.console_links import quota_url
from tasks_lib.aws.service_quotas import AccountQuota, ServiceQuotas, service_quotas
from tasks_lib.error_categories import ErrorCategory
from tasks_lib.errors import PrefectSageMakerError, QuotaExceeded
from tasks_lib.jobs.kind import JobKind
from tasks_lib.prefect_runtime.run_context import RunContext
from tasks_lib.quotas.quota import hosts_by_quota


def check_quotas(
    project: SageMakerProject, run: RunContext, task: str, kind: JobKind, request: Mapping[str, Any]
) -> None:
    """Refuse a job that can never run.

    Args:
        project: The project whose account is checked.
        run: Its logger gets the reason, at debug level, if the quotas cannot be read.
        task: The task's name.
        kind: Kind of job.
        request: Its create request.

    Raises:
        QuotaExceeded: The job asks for more hosts than a quota allows. Its `category` is a user error, since waiting
            does not help.
    """
    quotas, hosts = service_quotas(project), hosts_by_quota(kind, request)
    try:
        short = _short(quotas, hosts)
    except PrefectSageMakerError as unread:
        run.logger.debug("The quotas for task %r were not checked: %s", task, unread)
        return
    if short is not None:
        raise _refusal(project, task, short, hosts[short.name])


def _short(quotas: ServiceQuotas, hosts: Mapping[str, int]) -> AccountQuota | None:
    """Return a quota that is too small for the job, or None."""
    known = quotas.by_name()
    if _too_small(known, hosts) is None:
        return None
    # The quota may have been raised since it was read.
    return _too_small(quotas.by_name(fresh=True), hosts)


def _too_small(quotas: Mapping[str, AccountQuota], hosts: Mapping[str, int]) -> AccountQuota | None:
    found = (quotas[name] for name, count in hosts.items() if name in quotas and quotas[name].value < count)
    return next(found, None)


def _refusal(project: SageMakerProject, task: str, quota: AccountQuota, hosts: int) -> QuotaExceeded:
    if project.is_local:
        where = f"raise it in {project.local_home}/settings.json"
    else:
        where = f"ask for more at {quota_url(project, quota.code)}"
    fewer = f"set instance_count to {quota.value} or less, " if quota.value else ""
    return QuotaExceeded(
        f"Task {task!r} asks for {hosts} instance(s), and the account's quota {quota.name!r} is {quota.value}: "
        "such a job can never run.",
        operation="ListServiceQuotas",
        code="ResourceLimitExceeded",
        category=ErrorCategory.USER_ERROR,
        fix=f"{where}, {fewer}or use another instance type.",
    )
