"""Override rules that several kinds of jobs share."""

from __future__ import annotations

from collections.abc import Mapping

from tasks_lib.jobs.override_rules import How, Rule


def refused(advice: str, *, removable: bool = False, with_code: bool = False) -> Rule:
    """Return the rule for a field that `overrides` may not set."""
    return Rule(How.REFUSED, advice, removable=removable, with_code=with_code)


MEMBERS, REPLACED, FREE = Rule(How.MEMBERS), Rule(How.REPLACED, removable=True), Rule(How.FREE, removable=True)
KEPT = Rule(How.REPLACED)
REMOVABLE = Rule(How.MEMBERS, removable=True)
NAME = refused("the task's name gives the stem of its jobs' names")
CONTENT = refused("say in `inputs` what the input reads")
DISTRIBUTION = refused("use `Channel(…, distribution=…)`")
OTHER_SOURCE = refused("name another channel: this one is among the task's `inputs`")
ENTRY_POINT_ADVICE = (
    "name the program by a file or `command`; the entry point of an image that is complete in itself may be set"
)
MAX_RUNTIME = refused("use `max_runtime_minutes`, which may be a fraction")
OUTPUT_ONLY = refused("leave it out: SageMaker says there what it chose")
VPC = {"Subnets": KEPT, "SecurityGroupIds": KEPT}
CLUSTER = {
    "InstanceType": refused("use `instance_type`"),
    "InstanceCount": refused("use `instance_count`"),
    "InstancePreferences": refused("give `instance_type` a list"),
    "VolumeSizeInGB": refused("use `volume_size_gb`", removable=True),
    "VolumeKmsKeyId": REPLACED,
    "SelectedInstanceType": OUTPUT_ONLY,
    "SelectedInstanceCount": OUTPUT_ONLY,
}
EVERY_JOB = {
    "RoleArn": KEPT,
    "Environment": refused("use `environment`, which the log masks, or `secrets`"),
    "Tags": refused("use `tags`", removable=True),
    "ExperimentConfig": FREE,
}
IGNORED_IN_EVERY_JOB = frozenset({"ExperimentConfig", "RoleArn", "StoppingCondition", "Tags"})
"""Request fields of every kind that change where and at what price a job runs, not what it computes."""


def below(path: str, rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Return the rules with a path prepended to their names."""
    return {f"{path}.{name}": rule for name, rule in rules.items()}
