"""The Prefect surface: `train` and `process` as real Prefect tasks, bound to a project once.

Bound, because `.map` would take a block for something to iterate over, and so that no flow repeats itself. Prefect's
own cache is off: whether there is something to do is decided in the body, once, by what stands in S3 and on SageMaker
(`docs/decisions/0003-cached-in-the-body.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed
from pydantic import ValidationError

from blocks import SageMakerProject
from tasks_lib.bundle import Source
from tasks_lib.channels import as_channels
from tasks_lib.completion import Rerun
from tasks_lib.errors import InvalidTask
from tasks_lib.execution import Execution, OnBusy, Wish
from tasks_lib.metrics import MetricReader
from tasks_lib.naming import check_task_name
from tasks_lib.results import JobResult
from tasks_lib.run_context import RunCancelled, current_run
from tasks_lib.spec import JobSpec, StateMode, check_overrides, deep_merge, encode_hyperparameters
from tasks_lib.status import JobKind

_OF_BLOCK = {"image", "instance_type", "instance_count", "volume_size_gb", "max_runtime_minutes", "spot"}
_OF_CALL = {"environment", "tags", "overrides", "state", "rerun", "on_busy", "max_wait_minutes"}
_MERGED = {"environment", "tags", "overrides"}


class SageMakerTasks:
    """The tasks of one project.

    Attributes:
        train: Runs a training job.
        process: Runs a processing job.
        project: The project they are bound to.
    """

    def __init__(self, project: SageMakerProject, defaults: Mapping[str, Any]) -> None:
        unknown = defaults.keys() - _OF_BLOCK - _OF_CALL
        if unknown:
            raise InvalidTask(
                f"sagemaker_tasks has no default for {', '.join(sorted(unknown))}.",
                fix=f"use any of {', '.join(sorted(_OF_BLOCK | _OF_CALL))}.",
            )
        self.project = project
        self._defaults = dict(defaults)
        self.train = _as_task("train", self._train)
        self.process = _as_task("process", self._process)

    def _train(
        self,
        name: str,
        *,
        entry_point: str | None = None,
        source_dir: str | Path | None = None,
        command: str | None = None,
        dependencies: Sequence[str | Path] = (),
        arguments: Sequence[str] = (),
        inputs: Mapping[str, Any] | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        image: str | None = None,
        instance_type: str | None = None,
        instance_count: int | None = None,
        volume_size_gb: int | None = None,
        max_runtime_minutes: int | None = None,
        max_wait_minutes: int | None = None,
        spot: bool | None = None,
        state: StateMode | None = None,
        tags: Mapping[str, str] | None = None,
        rerun: Rerun | None = None,
        clean_state: bool = False,
        on_busy: OnBusy | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a training job, unless its result is there already.

        Args:
            name: The task's name: its folder in S3, its run name in Prefect, the stem of its jobs' names.
            entry_point: File to run (`.py`, `.sh`, `.ipynb`): relative to `source_dir`, or a path of its own.
            source_dir: Directory whose content becomes `/opt/ml/code`.
            command: Shell command to run instead of a file.
            dependencies: Further files and directories, laid beside the entry point under their own names.
            arguments: Command line arguments, after those of the hyperparameters.
            inputs: By channel: a local path, an S3 URI, a `Channel`, or `output_of(task)`.
            hyperparameters: JSON values by name; the code gets them typed, as `--name value` and in `SM_HPS`.
            metrics: Regular expression by metric name; the first group is the value.
            environment: Environment variables.
            image: Container image; default the project's.
            instance_type: Instance type; default the project's.
            instance_count: Number of hosts; default the project's.
            volume_size_gb: Storage of each host in GB; default the project's.
            max_runtime_minutes: SageMaker stops the job then; default the project's.
            max_wait_minutes: Wait for spot and run together; at least the longest run.
            spot: Use spot instances; default the project's.
            state: `task` (default) keeps `$SSM_STATE` between the task's jobs; `none` keeps nothing.
            tags: Further tags.
            rerun: `when_changed` (default), `if_incomplete` (by name alone), or `always`.
            clean_state: Empty the state first, and run again.
            on_busy: `wait` (default) or `fail` while other work writes the state.
            overrides: Merged into the `CreateTrainingJob` request, deep.

        Returns:
            The `JobResult`.

        Raises:
            InvalidTask: Before any job is made: see the tree in `errors.py`.
            JobFailed: The job failed.
            JobStopped: The job was stopped or ran into its time limit.
        """
        return self._run("training", locals())

    def _process(
        self,
        name: str,
        *,
        code: str | None = None,
        source_dir: str | Path | None = None,
        command: str | None = None,
        dependencies: Sequence[str | Path] = (),
        arguments: Sequence[str] = (),
        inputs: Mapping[str, Any] | None = None,
        metrics: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        image: str | None = None,
        instance_type: str | None = None,
        instance_count: int | None = None,
        volume_size_gb: int | None = None,
        max_runtime_minutes: int | None = None,
        state: StateMode | None = None,
        tags: Mapping[str, str] | None = None,
        rerun: Rerun | None = None,
        clean_state: bool = False,
        on_busy: OnBusy | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a processing job, unless its result is there already.

        Args:
            name: See `train`.
            code: File to run: relative to `source_dir`, or a path of its own.
            source_dir: See `train`.
            command: See `train`.
            dependencies: See `train`.
            arguments: Command line arguments.
            inputs: See `train`; the code finds channel `x` at `$SM_CHANNEL_X`.
            metrics: See `train`.
            environment: See `train`.
            image: See `train`.
            instance_type: See `train`.
            instance_count: See `train`.
            volume_size_gb: See `train`.
            max_runtime_minutes: See `train`.
            state: See `train`.
            tags: See `train`.
            rerun: See `train`.
            clean_state: See `train`.
            on_busy: See `train`.
            overrides: Merged into the `CreateProcessingJob` request, deep.

        Returns:
            The `JobResult`; what the code wrote to `$SM_OUTPUT_DATA_DIR` is its `output`.

        Raises:
            InvalidTask: Before any job is made: see the tree in `errors.py`.
            JobFailed: The job failed.
            JobStopped: The job was stopped or ran into its time limit.
        """
        return self._run("processing", locals())

    def _run(self, kind: JobKind, arguments: dict[str, Any]) -> Any:
        call = {key: value for key, value in arguments.items() if key != "self"}
        source, entry_point = _source(call)
        inputs = as_channels(call["inputs"])
        spec = self._spec(kind, call, entry_point)
        wish = Wish(
            rerun=_one_of(Rerun, "rerun", self._chosen("rerun", call, "when_changed")),
            clean_state=call["clean_state"],
            on_busy=_one_of(OnBusy, "on_busy", self._chosen("on_busy", call, "wait")),
        )
        self.project.wake()
        execution = Execution(self.project, spec, source=source, inputs=inputs, wish=wish, run=current_run())
        try:
            result = execution.result()
        except RunCancelled as cancelled:
            return Cancelled(message=str(cancelled))
        return Completed(name="Cached", message=result.reason, data=result) if result.cached else result

    def _spec(self, kind: JobKind, call: dict[str, Any], entry_point: str | None) -> JobSpec:
        overrides = self._merged("overrides", call)
        check_overrides(kind, overrides)
        project = self.project
        return _checked_spec(
            kind=kind,
            task=check_task_name(call["name"]),
            image=self._image(call),
            entry_point=entry_point,
            command=call["command"] or None,
            arguments=_texts("arguments", call["arguments"]),
            hyperparameters=_checked_hyperparameters(call.get("hyperparameters")),
            environment=_variables(self._merged("environment", call)),
            metrics=dict(MetricReader(call["metrics"] or {}).patterns),
            instance_type=self._chosen("instance_type", call),
            instance_count=self._chosen("instance_count", call),
            volume_size_gb=self._chosen("volume_size_gb", call),
            max_runtime_seconds=_seconds("max_runtime_minutes", self._chosen("max_runtime_minutes", call)),
            spot=kind == "training" and self._chosen("spot", call),
            max_wait_seconds=_seconds("max_wait_minutes", self._chosen("max_wait_minutes", call)),
            state=_one_of(StateMode, "state", self._chosen("state", call, "task")),
            subnets=tuple(project.subnets),
            security_group_ids=tuple(project.security_group_ids),
            volume_kms_key=project.volume_kms_key,
            output_kms_key=project.output_kms_key,
            network_isolation=project.network_isolation,
            encrypt_between_containers=project.encrypt_between_containers,
            tags={**project.tags, **self._merged("tags", call)},
            overrides=overrides,
        )

    def _chosen(self, name: str, call: dict[str, Any], otherwise: Any = None) -> Any:
        """Return what the call says, else what was bound, else what the project says."""
        for value in (call.get(name), self._defaults.get(name)):
            if value is not None:
                return value
        return getattr(self.project, name) if name in _OF_BLOCK else otherwise

    def _merged(self, name: str, call: dict[str, Any]) -> dict[str, Any]:
        assert name in _MERGED
        return deep_merge(self._defaults.get(name) or {}, call.get(name) or {})

    def _image(self, call: dict[str, Any]) -> str:
        image = self._chosen("image", call)
        if not image:
            raise InvalidTask(
                f"The task {call['name']!r} names no image, and neither does the project {self.project.project!r}.",
                fix="set image=… on the task or in the project block: an ECR image such as one of AWS's deep "
                "learning containers; any image with Python 3.8 or newer will do.",
            )
        return str(image)


class _JobTask(Task[..., JobResult]):
    """A Prefect task whose direct call returns the result also where there was nothing to run.

    `.submit()` and `.map()` read the result out of a state that a body returned; a direct call hands out the state.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        answer = super().__call__(*args, **kwargs)
        if isinstance(answer, State) and not kwargs.get("return_state"):
            return answer.result(_sync=True)  # type: ignore[call-overload] # an async flow would get a coroutine
        return answer

    def with_options(self, **options: Any) -> Task[..., JobResult]:
        changed = super().with_options(**options)
        changed.__class__ = type(self)  # Prefect makes a plain `Task` of any
        return changed


def _as_task(name: str, body: Callable[..., Any]) -> Task[..., JobResult]:
    return _JobTask(fn=body, name=name, task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)


def sagemaker_tasks(project: str | SageMakerProject = "local", **defaults: Any) -> SageMakerTasks:
    """Bind the SageMaker tasks to a project.

    Args:
        project: A `SageMakerProject`, the name of a saved one, or `local` for this machine.
        **defaults: For every task that does not say otherwise: `image`, `instance_type`, `instance_count`,
            `volume_size_gb`, `max_runtime_minutes`, `max_wait_minutes`, `spot`, `state`, `rerun`, `on_busy`; and
            `environment`, `tags` and `overrides`, which are merged with the task's own.

    Raises:
        BlockNotFound: No block is saved under that name.
        InvalidTask: A default that there is not.
    """
    return SageMakerTasks(SageMakerProject.named(project), defaults)


def _source(call: dict[str, Any]) -> tuple[Source | None, str | None]:
    """Return the code of a call and the entry point's name in it."""
    entry_point = call.get("entry_point") or call.get("code")
    if entry_point and call["command"]:
        raise InvalidTask(
            f"The task {call['name']!r} has both a file and a command to run.", fix="give one of the two."
        )
    folder = Path(call["source_dir"]) if call["source_dir"] is not None else None
    if not (entry_point or call["command"]):
        if folder is not None or call["dependencies"]:
            raise InvalidTask(
                f"The task {call['name']!r} has code and nothing of it to run.",
                fix="name the file to run, or a command; an image that is complete in itself needs no code.",
            )
        return None, None
    return Source.collect(folder, str(entry_point) if entry_point else None, call["dependencies"])


def _checked_spec(**values: Any) -> JobSpec:
    try:
        return JobSpec(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidTask(
            f"The task {values['task']!r} has {first['loc'][0]}={first['input']!r}: {first['msg']}.",
            fix="mend that argument.",
        ) from error


def _seconds(what: str, minutes: Any) -> int | None:
    if minutes is None:
        return None
    if not isinstance(minutes, (int, float)):
        raise InvalidTask(f"{what} is {minutes!r}, not a number.", fix="give minutes, such as 90.")
    return round(minutes * 60)


def _checked_hyperparameters(values: Mapping[str, Any] | None) -> dict[str, Any]:
    encode_hyperparameters(values or {})
    return dict(values or {})


def _variables(values: Mapping[str, Any]) -> dict[str, str]:
    wrong = [name for name, value in values.items() if not isinstance(value, (str, int, float))]
    if wrong:
        raise InvalidTask(
            f"The environment variable {wrong[0]!r} is a {type(values[wrong[0]]).__name__}.", fix="give a text."
        )
    return {str(name): str(value) for name, value in values.items()}


def _one_of(choices: Any, what: str, value: Any) -> Any:
    if value not in get_args(choices):
        raise InvalidTask(f"{what} is {value!r}.", fix=f"use one of {', '.join(get_args(choices))}.")
    return value


def _texts(what: str, values: Sequence[Any]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise InvalidTask(f"{what} is one text, {values!r}, not a list.", fix=f"give a list: {values.split()!r}.")
    return tuple(str(value) for value in values)
