"""`_project.json`: the account and region that a project's folder belongs to.

A job's name is unique only within an account and a region. So two accounts that share a bucket could take each other's
jobs for their own. The file is checked once per process, before a job is created; a skipped step does not check it.
"""

from __future__ import annotations

import json
import threading

from blocks import SageMakerProject
from blocks.backend import ACCOUNT
from tasks_lib.aws.errors import translating
from tasks_lib.aws.objects import DocumentDamaged, Objects
from tasks_lib.errors import ProjectError, WrongAccount
from tasks_lib.jobs.s3_layout import ProjectFolder

_checked: set[tuple[str, str, str]] = set()
_lock = threading.Lock()


def check_account(project: SageMakerProject, objects: Objects) -> None:
    """Claim the project's folder for this account and region, or check that it has been claimed for them.

    Raises:
        WrongAccount: It belongs to another account or region.
    """
    here = (project.uri, account_of(project), project.region_name)
    with _lock:
        if here in _checked:
            return
        _claim(project, objects, {"account": here[1], "region": here[2]})
        _checked.add(here)


def _claim(project: SageMakerProject, objects: Objects, wanted: dict[str, str]) -> None:
    place = ProjectFolder(project.bucket, project.key_prefix).account_file
    try:
        found = objects.read(place)
        if found is None:
            objects.write(place, wanted)
            found = objects.read(place)
    except DocumentDamaged as error:
        # Do not delete it: nothing else keeps another account from writing here.
        owner = f"account {wanted['account']} in {wanted['region']}"
        raise ProjectError(
            f"{place.uri} cannot be read; it says to which account and region the project belongs.",
            fix=f"if the project belongs to {owner}, write {json.dumps(wanted)} there; do not delete it.",
        ) from error
    if found is not None and found.value != wanted:
        raise WrongAccount(
            f"{project.uri} belongs to account {found.value.get('account')} in {found.value.get('region')}, "
            f"and we are account {wanted['account']} in {wanted['region']}.",
            fix="use the credentials and the region of that account, or another prefix.",
        )


def account_of(project: SageMakerProject) -> str:
    """Return the account in which the project's jobs run."""
    if project.is_local:
        return ACCOUNT
    with translating("find out which AWS account this is"):
        return str(project.client("sts").get_caller_identity()["Account"])
