"""From the record of a job to what the caller of its task gets. Used by `execution.py`."""

from __future__ import annotations

from collections.abc import Collection

from blocks import SageMakerProject
from tasks_lib.jobs.cost import cost_of
from tasks_lib.jobs.job import Job, ended_job
from tasks_lib.ledger.records import Record
from tasks_lib.reports.links import console_url
from tasks_lib.results import JobResult


def result_of(
    record: Record,
    project: SageMakerProject,
    task: str,
    *,
    metrics: Collection[str],
    cached: bool,
    reason: str,
    seconds: float,
    job: Job | None,
) -> JobResult:
    """Return the result of a task.

    Args:
        record: What the job did.
        project: Where it ran; its prices count.
        task: The task's name.
        metrics: The metrics that were asked for, in their order.
        cached: Whether no job had to run.
        reason: Why it ran or did not.
        seconds: Wall time of the call.
        job: The job, where it ended in this call; else it is one that had completed.
    """
    job = job or ended_job(record.kind, record.job, record.arn)
    paid = record.kind.paid_seconds(record.billable_seconds, record.phases)
    result = JobResult(
        project=project.project,
        task=task,
        job=record.job,
        arn=record.arn,
        kind=record.kind.name,
        cached=cached,
        reason=reason,
        seconds=seconds,
        job_seconds=record.seconds,
        billable_seconds=record.billable_seconds,
        metrics={name: record.metrics[name] for name in metrics if name in record.metrics},
        metric_history=record.metric_history,
        outputs=record.outputs,
        fingerprint=record.fingerprint,
        status=job.phase.word,
        created=record.created,
        instance_type=record.instance_type,
        instance_count=record.instance_count,
        phases=record.kind.in_order(record.phases),
        cost=cost_of(project.hourly_prices.get(record.instance_type), record.instance_count, paid),
        inputs=record.inputs,
        failure="\n".join(filter(None, (job.message, job.reason))),
        link=console_url(project, job.kind, job.name),
        origin=project.origin,
    )
    return result.bound(project, record.ingredients)
