"""Two SageMaker jobs, prepare -> train. A step whose result exists already is skipped.

`python flow.py` runs them on this machine. `python flow.py my-block` runs them in the project of the block "my-block"
(see `project.py`).
"""

from argparse import ArgumentParser

from prefect import flow

from blocks import SageMakerProject
from tasks_lib import JobResult, output_of, sagemaker_tasks


@flow(name="my-project")
def pipeline(project: str = "local", epochs: int = 12) -> JobResult:
    """Fit a line through the prices of some houses, by their area."""
    sm = sagemaker_tasks(SageMakerProject.local("my-project") if project == "local" else project)
    prepare = sm.process.submit("prepare", code="code/prepare.py", inputs={"raw": "data"})
    train = sm.train.submit(
        "train",
        entry_point="code/train.py",
        inputs={"train": output_of(prepare)},
        hyperparameters={"epochs": epochs},
        metrics={"error": "error="},
    )
    return train.result()


if __name__ == "__main__":
    parser = ArgumentParser(description=pipeline.description)
    parser.add_argument("project", nargs="?", default="local")
    parser.add_argument("--epochs", type=int, default=12)
    print(pipeline(**vars(parser.parse_args())))
