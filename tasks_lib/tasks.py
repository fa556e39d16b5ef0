"""The Prefect tasks `train`, `process` and `shell`, bound to a project.

The project is bound once, so that a flow names it once; as an argument of a task, `.map` would iterate over the block.
Prefect's own cache is off. The task's body decides whether a job is needed, from what is in S3 and in SageMaker
(`docs/decisions/0003-cached-in-the-body.md`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.states import Cancelled

from blocks import SageMakerProject
from tasks_lib.backend import Backend
from tasks_lib.dry_run.dry_run import DryRun
from tasks_lib.errors import InvalidTask
from tasks_lib.jobs.kinds import PROCESSING, TRAINING, JobKind
from tasks_lib.options import JobOptions, TrainingOptions, shares
from tasks_lib.prefect_runtime.offline_engine import check_thread, current_plan, offline_run
from tasks_lib.prefect_runtime.prefect_task import JobTask, SweepTask, as_state
from tasks_lib.prefect_runtime.run_context import RunCancelled, current_run
from tasks_lib.run.execution import Execution
from tasks_lib.run.prepare import Code, check_defaults, check_paths, prepare


class SageMakerTasks:
    """The tasks of one project.

    Attributes:
        train: Runs a training job. `train.sweep` runs one for each point of a grid.
        process: Runs a processing job.
        shell: Runs a shell command as a training job.
        project: The project to which the tasks are bound.
    """

    def __init__(self, project: SageMakerProject, defaults: Mapping[str, Any]) -> None:
        self.project = project
        self._defaults = check_defaults(defaults)
        self.train = SweepTask.of("train", self._train)
        self.process = JobTask.of("process", self._process)
        self.shell = SweepTask.of("shell", self._shell)

    @shares(TrainingOptions)
    def _train(
        self,
        name: str,
        *,
        entry_point: str | None = None,
        source_dir: str | Path | None = None,
        command: str | None = None,
        dependencies: Sequence[str | Path] = (),
        **shared: Any,
    ) -> Any:
        """Run a training job, unless its result already exists.

        Args:
            name: The task's name, which is also its folder in S3, its run name in Prefect and the stem of its jobs'
                names.
            entry_point: File to run (`.py`, `.sh`, `.ipynb`): relative to `source_dir`, or a path of its own if that
                is None.
            source_dir: Directory whose content becomes `/opt/ml/code`.
            command: Shell command to run instead of a file; of any length.
            dependencies: Further files and directories, each placed beside the entry point under its own name.
            **shared: See `TrainingOptions`.

        Returns:
            The `JobResult`.

        Raises:
            InvalidTask: The task is invalid, and no job was created. The tree in `errors.py` has its subclasses.
            JobFailed: The job failed.
            JobStopped: The job was stopped or reached its time limit.
        """
        code = Code(entry_point, source_dir, command, dependencies)
        return self.run(TRAINING, name, code, TrainingOptions(**shared))

    @shares(JobOptions)
    def _process(
        self,
        name: str,
        *,
        code: str | None = None,
        source_dir: str | Path | None = None,
        command: str | None = None,
        dependencies: Sequence[str | Path] = (),
        **shared: Any,
    ) -> Any:
        """Run a processing job, unless its result already exists.

        Args:
            name: The task's name, which is also its folder in S3, its run name in Prefect and the stem of its jobs'
                names.
            code: File to run (`.py`, `.sh`, `.ipynb`): relative to `source_dir`, or a path of its own if that is None.
            source_dir: Directory whose content becomes `/opt/ml/code`.
            command: Shell command to run instead of a file; of any length.
            dependencies: Further files and directories, each placed beside the code under its own name.
            **shared: See `JobOptions`.

        Returns:
            The `JobResult`. Its `output` is what the code wrote to `$SM_OUTPUT_DATA_DIR`.

        Raises:
            InvalidTask: The task is invalid, and no job was created. The tree in `errors.py` has its subclasses.
            JobFailed: The job failed.
            JobStopped: The job was stopped or reached its time limit.
        """
        return self.run(PROCESSING, name, Code(code, source_dir, command, dependencies), JobOptions(**shared))

    @shares(TrainingOptions)
    def _shell(self, name: str, command: str, *, files: Sequence[str | Path] = (), **shared: Any) -> Any:
        """Run a shell command as a training job, unless its result already exists.

        Args:
            name: The task's name, which is also its folder in S3, its run name in Prefect and the stem of its jobs'
                names.
            command: The command, of any length. It runs in the directory of the files.
            files: Files and directories, each placed in that directory under its own name.
            **shared: See `TrainingOptions`.

        Returns:
            The `JobResult`. Its `output` is what the command wrote to `$SM_OUTPUT_DATA_DIR`.

        Raises:
            InvalidTask: The task is invalid, and no job was created. The tree in `errors.py` has its subclasses.
            JobFailed: The command ended with an exit code other than 0, or SageMaker failed.
            JobStopped: The job was stopped or reached its time limit.
        """
        if not isinstance(command, str) or not command.strip():
            raise InvalidTask(
                f"The task {name!r} has the command {command!r}.", fix="give a text, such as 'cat words.txt | wc -l'."
            )
        code = Code(command=command, dependencies=check_paths("files", files))
        return self.run(TRAINING, name, code, TrainingOptions(**shared))

    def run(self, kind: JobKind, name: str, code: Code, options: JobOptions) -> Any:
        """Run a job of any kind, unless its result already exists.

        Args:
            kind: Kind of job.
            name: The task's name.
            code: The code that the job runs.
            options: All other options, an instance of `kind.options`.

        Returns:
            The `JobResult`; for a skip the Prefect state `Cached` with it, for a cancelled run the state `Cancelled`.
            In a dry run, the result as far as it is known.
        """
        call = prepare(self.project, self._defaults, kind=kind, name=name, code=code, options=options)
        self.project.drop_dead_clients()
        backend = Backend(self.project)
        if planning := current_plan():
            return planning.add(DryRun(call, backend, offline_run()))
        run = current_run()
        check_thread(run.flow_run)
        try:
            return as_state(Execution(call, backend, run).result())
        except RunCancelled as cancelled:
            return Cancelled(message=str(cancelled))


def sagemaker_tasks(project: str | SageMakerProject = "local", **defaults: Any) -> SageMakerTasks:
    """Bind the SageMaker tasks to a project.

    Args:
        project: A `SageMakerProject`, the name of a saved one, or `local` (default) for this machine.
        **defaults: Defaults for every task: `image`, `instance_type`, `instance_count`, `volume_size_gb`,
            `max_runtime_minutes`, `max_wait_minutes`, `spot`, `state`, `rerun`, `on_busy`, `on_exit` and
            `capacity_minutes`. A task's own value takes precedence. Defaults of `environment`, `secrets`, `tags` and
            `overrides` are merged with the task's own.

    Raises:
        BlockNotFound: No block is saved under that name.
        InvalidTask: There is no default of such a name.
    """
    return SageMakerTasks(SageMakerProject.named(project), defaults)
