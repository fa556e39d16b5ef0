"""The result of a task: names, URIs and numbers, but no bulk data.

A `JobResult` passes through Prefect as a plain value. It reads S3, the ledger or the log only when one of its methods
is called. A failed job has one, too: `JobFailed.result`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from html import escape
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, PrivateAttr

from blocks import SageMakerProject
from tasks_lib.aws.console_links import console_url
from tasks_lib.aws.logs import LogLine, LogTail
from tasks_lib.aws.objects import Objects
from tasks_lib.errors import InvalidInput, ServiceFault
from tasks_lib.jobs.fingerprint import Ingredients
from tasks_lib.jobs.job import Job, cost_of, past_job, shown_cost
from tasks_lib.jobs.kinds import kind_of
from tasks_lib.jobs.metrics import Metrics, MetricValue
from tasks_lib.jobs.s3_layout import ProjectFolder
from tasks_lib.ledger.records import Ledger, Record
from tasks_lib.results.explanation import Explanation
from tasks_lib.results.output import Output
from tasks_lib.tables import Table

if TYPE_CHECKING:
    import pandas as pd


class JobResult(BaseModel):
    """The result of a task: of the job that ran now, or of the earlier job that let it be skipped.

    Args:
        project: The project's name.
        task: The task's name.
        job: The job's name.
        arn: The job's ARN.
        kind: `training` or `processing`.
        cached: Whether the step was skipped.
        reason: Why the step ran or was skipped.
        seconds: Wall time of this call, in seconds.
        job_seconds: Seconds from the job's creation to its end; None if unknown.
        billable_seconds: Seconds that SageMaker bills for each instance; None if it does not report them.
        metrics: Last value by metric, also `nan` and `inf`. Looking up a metric that the log had no value of raises
            `MetricMissing`.
        metric_history: All values by metric, as (epoch seconds, value).
        outputs: URI by output: `model`, `output`, `state`, `source`.
        fingerprint: The fingerprint of the work.
        status: How the job ended: `Completed`, `Failed` or `Stopped`.
        created: When SageMaker created the job, in epoch seconds; None if unknown.
        instance_type: The job's instance type.
        instance_count: Number of hosts; None if unknown.
        phases: Seconds by phase: `starting`, `downloading`, `training` or `processing`, `uploading`.
        cost: The job's cost by the project's `hourly_prices`; None if unknown.
        inputs: URI by channel.
        failure: What SageMaker and the job reported of a failure.
        link: URL of the job in the AWS console; empty for a local job.
        origin: Identifies the project to another process, so that a result that was stored by Prefect, as JSON or as a
            pickle, still reaches its outputs. It contains no secret.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    project: str
    task: str
    job: str
    arn: str
    kind: str
    cached: bool
    reason: str
    seconds: float
    job_seconds: float | None = None
    billable_seconds: float | None = None
    metrics: Annotated[dict[str, MetricValue], AfterValidator(Metrics)] = Metrics()
    metric_history: dict[str, list[tuple[float, MetricValue]]] = {}
    outputs: dict[str, str] = {}
    fingerprint: str
    status: Literal["Completed", "Failed", "Stopped"] = "Completed"
    created: float | None = None
    instance_type: str = ""
    instance_count: int | None = None
    phases: dict[str, float] = {}
    cost: float | None = None
    inputs: dict[str, str] = {}
    failure: str = ""
    link: str = ""
    origin: dict[str, Any] = {}

    _home: SageMakerProject | None = PrivateAttr(default=None)
    _ingredients: Ingredients | None = PrivateAttr(default=None)

    def __getstate__(self) -> dict[Any, Any]:
        """Leave the project out: its clients cannot be pickled, and its credentials must not be."""
        private = {"_home": None, "_ingredients": self._ingredients}
        return {**super().__getstate__(), "__pydantic_private__": private}

    def __eq__(self, other: object) -> bool:
        # The bound project does not count. As JSON, because there NaN equals NaN.
        return isinstance(other, JobResult) and self.model_dump(mode="json") == other.model_dump(mode="json")

    __hash__ = None  # type: ignore[assignment] # its mappings are not hashable

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> JobResult:
        """Return the result itself, since it is immutable."""
        return self

    @classmethod
    def from_record(
        cls,
        record: Record,
        project: SageMakerProject,
        task: str,
        *,
        metrics: Collection[str],
        cached: bool,
        reason: str,
        seconds: float,
        job: Job | None = None,
    ) -> JobResult:
        """Return the result of a task.

        Args:
            record: The record of the job.
            project: The project, with the prices for the cost.
            task: The task's name.
            metrics: The metrics that the call asks for, in their order.
            cached: Whether the step was skipped.
            reason: Why the step ran or was skipped.
            seconds: Wall time of the call, in seconds.
            job: The job if this call saw it end; None (default) for a job that completed earlier.
        """
        kind, price = record.kind, project.hourly_prices.get(record.instance_type)
        paid = kind.billed_seconds(record.billable_seconds, record.phases)
        ended: dict[str, Any] = (
            {"status": job.phase.word, "failure": "\n".join(filter(None, (job.message, job.reason)))} if job else {}
        )
        result = cls(
            project=project.project,
            task=task,
            job=record.job,
            arn=record.arn,
            kind=kind.name,
            cached=cached,
            reason=reason,
            seconds=seconds,
            job_seconds=record.seconds,
            billable_seconds=record.billable_seconds,
            metrics={name: record.metrics[name] for name in metrics if name in record.metrics},
            metric_history=record.metric_history,
            outputs=record.outputs,
            fingerprint=record.fingerprint,
            created=record.created,
            instance_type=record.instance_type,
            instance_count=record.instance_count,
            phases=kind.in_order(record.phases),
            cost=cost_of(price, record.instance_count, paid),
            inputs=record.inputs,
            link=console_url(project, kind, record.job),
            origin=project.origin,
            **ended,
        )
        return result.bound(project, record.ingredients)

    def bound(self, project: SageMakerProject, ingredients: Ingredients | None = None) -> JobResult:
        """Set the project through which this result reaches its outputs, and return the result.

        Only a result that was read back from JSON or a pickle needs this, to use something else than its `origin`, such
        as other credentials.

        Args:
            project: The project.
            ingredients: The ingredients of the work if the ledger has none, as for a failed job; by default unchanged.
        """
        self._home = project
        self._ingredients = ingredients or self._ingredients
        return self

    # -- how it is displayed ---------------------------------------------------------------------------------------

    @property
    def table(self) -> Table:
        """The facts of the result as a table, one row each."""
        facts = {
            "job": self.job,
            "status": self.status,
            "why": self.reason,
            "instances": f"{self.instance_count} x {self.instance_type}" if self.instance_type else None,
            "seconds": self._seconds,
            "cost": shown_cost(self.cost),
            **{f"metric {name}": f"{value:.6g}" for name, value in self.metrics.items()},
            **{f"input {name}": uri for name, uri in self.inputs.items()},
            **dict(self.outputs),
            "console": self.link,
            "failure": self.failure,
        }
        rows = tuple((name, value) for name, value in facts.items() if value)
        return Table((self.task, "skipped" if self.cached else self.status.lower()), rows)

    def __str__(self) -> str:
        return str(self.table)

    def _repr_html_(self) -> str:
        fields = self.table.rows
        rows = "".join(
            f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{_html(value)}</td></tr>'
            for name, value in fields
        )
        title = f"{escape(self.task)}: {'skipped' if self.cached else escape(self.status.lower())}"
        return f"<table><caption>{title}</caption><tbody>{rows}</tbody></table>"

    @property
    def _seconds(self) -> str | None:
        if self.job_seconds is None:
            return None
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.phases.items())
        return f"{self.job_seconds:.1f}" + (f" ({parts})" if parts else "")

    # -- its facts -------------------------------------------------------------------------------------------------

    def metrics_frame(self) -> pd.DataFrame:
        """Return the history of all metrics as a pandas data frame.

        Returns:
            A row for each value: `metric`, `time` (UTC), `seconds` since the job's first metric, `value`.
        """
        import pandas as pd  # noqa: PLC0415 - the import takes 0.4 s

        points = [(name, at, value) for name, history in self.metric_history.items() for at, value in history]
        first = min((at for _, at, _ in points), default=0.0)
        rows = [
            (name, dt.datetime.fromtimestamp(at, dt.timezone.utc), at - first, value)
            for name, at, value in sorted(points, key=lambda point: point[1])
        ]
        return pd.DataFrame(rows, columns=["metric", "time", "seconds", "value"])

    def logs(self) -> list[LogLine]:
        """Return the whole log of the job, from all hosts, in chronological order.

        Raises:
            ServiceFault: The log could not be read from CloudWatch Logs.
        """
        tail = LogTail(self._project("its log"), past_job(kind_of(self.kind), self.job, self.arn))
        lines = tail.all_lines()
        if tail.failure:
            raise ServiceFault(f"The log of job {self.job} could not be read: {tail.failure}", fix="ask again later.")
        return lines

    def explain(self) -> Explanation:
        """Return why this step ran or was skipped, and what its result is made of.

        Raises:
            InvalidInput: Neither the ledger nor this result has the ingredients of the work.
        """
        home = self._project("its ledger")
        ledger = Ledger(Objects(home), ProjectFolder(home.bucket, home.key_prefix).task(self.task))
        record = ledger.entry(self.fingerprint).record
        ingredients = record.ingredients if record else self._ingredients
        if ingredients is None:
            raise InvalidInput(
                f"Nothing is known any more of what {self.job} was made of.",
                fix="run the task: its reason is told then.",
            )
        before = ledger.entry(record.previous).record if record and record.previous else None
        return Explanation(
            self.reason, self.job, record.reason if record else "", ingredients, before.ingredients if before else None
        )

    # -- its outputs -----------------------------------------------------------------------------------------------

    @property
    def model(self) -> Output:
        """The model of a training job: `model.tar.gz`, or a prefix with `CompressionType` `NONE`."""
        return self._output("model")

    @property
    def output(self) -> Output:
        """The output: `output.tar.gz` of training; a prefix of processing, or with `CompressionType` `NONE`."""
        return self._output("output")

    @property
    def state(self) -> Output:
        """The task's state directory, as it is now."""
        return self._output("state")

    @property
    def source(self) -> Output:
        """The code that the job ran."""
        return self._output("source")

    def _output(self, name: str) -> Output:
        if name not in self.outputs:
            raise InvalidInput(
                f"The job {self.job} has no {name!r}.", fix=f"it has {', '.join(sorted(self.outputs)) or 'none'}."
            )
        return Output(self.outputs[name], Objects(self._project("S3")))

    def _project(self, what: str) -> SageMakerProject:
        if self._home is None and self.origin:
            self._home = SageMakerProject.from_origin(self.origin)
        if self._home is None:
            raise InvalidInput(
                f"This result of {self.job} does not know how to reach {what}.", fix="call result.bound(project) first."
            )
        return self._home


def _html(value: Any) -> str:
    """Return a cell as HTML: a URL as a link, and line breaks as `<br>`."""
    text = escape(str(value))
    return f'<a href="{text}">{text}</a>' if text.startswith("https://") else text.replace("\n", "<br>")
