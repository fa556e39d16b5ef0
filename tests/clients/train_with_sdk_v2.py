"""Train in script mode with the SageMaker SDK v2, attach to the job, and print its metrics and its name."""

import sys

import sagemaker
from sagemaker.analytics import TrainingJobAnalytics
from sagemaker.sklearn import SKLearn

estimator = SKLearn(
    entry_point="train.py",
    source_dir=sys.argv[1],
    role=sagemaker.get_execution_role(),
    framework_version="1.2-1",
    instance_type="ml.m5.large",
    instance_count=1,
    hyperparameters={"alpha": 0.5},
    metric_definitions=[{"Name": "alpha", "Regex": "alpha=(.*?);"}],
    base_job_name="trained-by-v2",
)
estimator.fit({"train": sagemaker.Session().upload_data("data", key_prefix="in")})
name = estimator.latest_training_job.name
attached = SKLearn.attach(name)
print("attached:", attached.model_data == estimator.model_data, attached.hyperparameters()["alpha"])
print("metrics:", TrainingJobAnalytics(name, metric_names=["alpha"]).dataframe()["value"].tolist())
print("role:", estimator.role)
print("job:", name)
