"""Prefect artifacts of a step: summary, metrics, plot, failure, and a progress bar while its job runs.

An artifact that cannot be written never fails the step: the run's log gets one warning.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

from blocks import SageMakerProject
from tasks_lib.aws.console_links import console_url
from tasks_lib.errors import JobError
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kind import Phase, Progress
from tasks_lib.jobs.masking import Masking
from tasks_lib.jobs.naming import slug
from tasks_lib.prefect_runtime.cancelled_state import STOP_EXCEPTIONS
from tasks_lib.prefect_runtime.run_context import RunContext
from tasks_lib.reports.plot import metrics_plot
from tasks_lib.reports.summary import Pages, began, metrics_line, metrics_table
from tasks_lib.results.job_result import JobResult


class Report:
    """Writes the artifacts of one call of a task; outside a task run it writes nothing.

    Args:
        run: The run of the call.
        project: The project.
        task: The task's name.
        mask: Masks secrets in texts.
    """

    def __init__(self, run: RunContext, project: SageMakerProject, task: str, mask: Masking) -> None:
        self._run, self._project, self._task, self._mask = run, project, task, mask
        self._pages = Pages(project)
        self._shown: Progress | None = None
        self._bar: UUID | None = None
        self._warned = False

    def progress(self, job: Job) -> None:
        """Show a job's progress in one bar, which stays where it was if the job fails or is stopped."""
        now, before = job.progress, self._shown
        if job.phase in (Phase.FAILED, Phase.STOPPED):
            now = now._replace(percent=before.percent if before else 0)
        if now != before:
            link = console_url(self._project, job.kind, job.name)
            self._move(now, f"{now.words}: " + (f"[{job.name}]({link})" if link else job.name))

    def show_left_running(self, words: str) -> None:
        """Show that this run no longer waits for the job."""
        if self._shown:
            self._move(self._shown, words)

    def finished(self, result: JobResult) -> JobResult:
        """Show the result of the call, and return it.

        A skip writes only the summary, which has the metrics. Each artifact takes Prefect's server 10 to 20 ms, as long
        as the rest of a skip, and the artifacts of the run that did the work are still on the pages of their keys.
        """
        self._show_result(result, whole=not result.cached)
        return result

    def failed(self, error: JobError) -> None:
        """Show why a job failed or was stopped, and its result as far as there is one."""
        words = (error.reason or error.message).partition("\n")[0]
        page = self._write("failure", "markdown", lambda: self._mask(self._pages.failure(error)), words)
        if page and error.result:
            self._show_result(error.result, whole=True)

    def _show_result(self, result: JobResult, *, whole: bool) -> None:
        """Write artifacts until one fails: if the API does not answer, its client takes a minute for each request."""
        page = self._write("summary", "markdown", lambda: self._mask(self._pages.summary(result)), result.reason)
        if page and whole and result.metrics:
            self._show_metrics(result)

    def _show_metrics(self, result: JobResult) -> None:
        values = metrics_line(result)
        table = self._write("metrics", "table", lambda: json.dumps(metrics_table(result).to_dicts()), values)
        history = {name: result.metric_history.get(name, []) for name in result.metrics}
        if table and any(len(points) > 1 for points in history.values()):
            self._write("plot", "image", lambda: metrics_plot(history, began(result), self._task), values)

    def _move(self, to: Progress, words: str) -> None:
        first, self._shown = self._shown is None, to
        if first:
            self._bar = self._write("progress", "progress", lambda: to.percent, words)
        elif bar := self._bar:
            self._bar = self._attempt(lambda api: _moved(api, bar, to, words))  # None after a failure

    def _write(self, what: str, kind: str, content: Callable[[], str | float], description: str) -> UUID | None:
        """Write an artifact, and return its id; None if it could not be written."""

        def create(api: SyncPrefectClient) -> UUID:
            # By the task run's own client: Prefect's functions would make a new one for each artifact.
            artifact = ArtifactCreate(
                key=artifact_key(self._project.project, self._task, what),
                type=kind,
                description=self._mask(description),
                data=content(),
                flow_run_id=self._run.flow_run,
                task_run_id=self._run.task_run,
            )
            return api.create_artifact(artifact).id

        return self._attempt(create)

    def _attempt(self, act: Callable[[SyncPrefectClient], UUID]) -> UUID | None:
        if self._run.api is None or (self._run.server and self._run.server.away):
            return None
        try:
            return act(self._run.api)
        except STOP_EXCEPTIONS:
            raise
        except Exception as error:  # noqa: BLE001 - no error of Prefect's API or of a plot may hide the job's result
            if not self._warned:
                text = "The artifacts of task %s are not all in Prefect's UI: %s: %s"
                self._run.logger.warning(text, self._task, type(error).__name__, error)
            self._warned = True
            return None


def artifact_key(project: str, task: str, what: str) -> str:
    """Return the key of an artifact, such as `demo--fit-metrics`; Prefect allows lowercase letters, digits and dashes.

    It is the same in every run, so that Prefect's page of the key is the history of the step. Two dashes, which a slug
    never has, separate the projects: `demo--fit-x` and `demo-fit--x` are different tasks.
    """
    return f"{slug(project)}--{slug(task)}-{what}".lower()


def _moved(api: SyncPrefectClient, bar: UUID, to: Progress, words: str) -> UUID:
    api.update_artifact(bar, ArtifactUpdate(data=to.percent, description=words))
    return bar
