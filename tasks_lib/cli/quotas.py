"""`ssm quotas`: shows the account's quotas for a few instance types, and makes Prefect's concurrency limits from them.

The account has some 1,500 quotas. A list of as many limits would be of no use, so they are made for a few types only.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from blocks import SageMakerProject
from tasks_lib.aws.service_quotas import AccountQuota, service_quotas
from tasks_lib.errors import ProjectError
from tasks_lib.jobs.kinds import KINDS
from tasks_lib.ledger.project_file import account_of
from tasks_lib.quotas.quota import limit_name, quota_name
from tasks_lib.tables import Table


@dataclass(frozen=True)
class _Row:
    """A quota, and Prefect's limit for it.

    Args:
        quota: The quota's name.
        instance_type: The instance type.
        value: Hosts that may run at a time; None if the account has no such quota.
        limit: The limit's name.
        slots: The limit's number of slots; None if it does not exist, or no server is configured.
    """

    quota: str
    instance_type: str
    value: int | None
    limit: str
    slots: int | None


def quotas(options: argparse.Namespace) -> str:
    """Return the text to print; with `--apply`, make the limits first.

    Raises:
        PrefectSageMakerError: The block or the quotas cannot be read, or Prefect's server does not answer.
    """
    project = SageMakerProject.named(options.block)
    types = tuple(dict.fromkeys(options.instance_type or (project.instance_type,)))
    known = service_quotas(project).by_name()
    api = get_current_settings().api.url
    if api is None:
        return _without_server(project, types, known, apply=options.apply)
    try:
        with get_client(sync_client=True) as client:
            rows = [*_rows(project, types, known, client)]
            if not options.apply:
                return f"{_table(project, rows)}\n\n{_next(options, rows)}"
            said = _applied(client, rows)
            return f"{_table(project, [*_rows(project, types, known, client)])}\n\n{said}"
    except httpx.HTTPError as error:
        raise ProjectError(
            f"The Prefect server at {api} does not answer ({error}).",
            fix="start it, or name another: prefect config set PREFECT_API_URL=…",
        ) from error


def _without_server(
    project: SageMakerProject, types: Sequence[str], known: Mapping[str, AccountQuota], *, apply: bool
) -> str:
    """Return the quotas alone: no other machine would see the limits of Prefect's temporary server."""
    if apply:
        raise ProjectError(
            "No Prefect server is configured that could have limits.",
            fix="name one: prefect config set PREFECT_API_URL=…",
        )
    rows = [*_rows(project, types, known, None)]
    return f"{_table(project, rows)}\n\nNext: prefect config set PREFECT_API_URL=…, which is where limits can be."


def _rows(
    project: SageMakerProject,
    types: Sequence[str],
    known: Mapping[str, AccountQuota],
    client: SyncPrefectClient | None,
) -> Iterator[_Row]:
    account, region = account_of(project), project.region_name
    for instance_type in types:
        for use in (use for kind in KINDS.values() for use in kind.quota_uses):
            quota = quota_name(use, instance_type)
            limit = limit_name(account, region, quota)
            value = known[quota].value if quota in known else None
            yield _Row(quota, instance_type, value, limit, _slots(client, limit) if client else None)


def _slots(client: SyncPrefectClient, limit: str) -> int | None:
    try:
        return client.read_global_concurrency_limit_by_name(limit).limit
    except ObjectNotFound:
        return None


def _table(project: SageMakerProject, rows: Sequence[_Row]) -> Table:
    return Table(
        ("quota", "value", "instance type", "Prefect limit", "limit"),
        tuple((row.quota, row.value, row.instance_type, row.limit, row.slots) for row in rows),
        title=f"Quotas of account {account_of(project)} in {project.region_name}",
    )


def _applied(client: SyncPrefectClient, rows: Sequence[_Row]) -> str:
    """Create or change the limits; return what was done as text.

    A quota of 0 gets no limit, since its jobs are refused before they would wait.
    """
    wanted = {row.limit: row for row in rows if row.value}
    changed = [_made(client, row) for row in wanted.values() if row.slots != row.value]
    kept = len(wanted) - len(changed)
    said = [*changed, *([f"Kept {kept} limit(s), which have the quota's value."] if kept else [])]
    following = "Next: set use_concurrency_limits in the block, so that its jobs wait for their slots."
    return "\n".join([*(said or ["No limit was made, since the account has no such quota above 0."]), following])


def _made(client: SyncPrefectClient, row: _Row) -> str:
    assert row.value is not None
    client.upsert_global_concurrency_limit_by_name(row.limit, row.value)
    return (
        f"Made {row.limit!r} with {row.value} slots."
        if row.slots is None
        else (f"Changed {row.limit!r} from {row.slots} to {row.value} slots.")
    )


def _next(options: argparse.Namespace, rows: Sequence[_Row]) -> str:
    if not any(row.value and row.value != row.slots for row in rows):
        return "Next: nothing is to be made; --instance-type TYPE shows another type."
    types = "".join(f" --instance-type {shlex.quote(each)}" for each in options.instance_type or ())
    return f"Next: ssm quotas --block {shlex.quote(options.block)}{types} --apply"
