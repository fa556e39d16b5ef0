"""The account's SageMaker quotas, from Service Quotas; listed once per process, in some fifteen pages.

`GetServiceQuota` for each job would not do: it needs a code, such as `L-D9090DE7`, which only the listing has. The
listing is cached. Before a job is refused because of it, a listing older than a minute is read again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from blocks import SageMakerProject
from tasks_lib.aws.errors import translating
from tasks_lib.errors import PrefectSageMakerError

if TYPE_CHECKING:
    from types_boto3_service_quotas import ServiceQuotasClient

_FRESH_SECONDS = 60.0


@dataclass(frozen=True)
class AccountQuota:
    """A quota of the account.

    Args:
        name: Such as `ml.m5.large for training job usage`.
        value: Hosts that may run at a time.
        code: The quota's code in the console and the API, such as `L-D9090DE7`.
    """

    name: str
    value: int
    code: str


class ServiceQuotas:
    """The quotas of one account in one region, listed on first use.

    Args:
        client: boto3's client of Service Quotas.
        clock: Monotonic seconds.
    """

    def __init__(self, client: ServiceQuotasClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._clock = client, clock
        self._lock = threading.Lock()
        self._read: float | None = None
        self._quotas: Mapping[str, AccountQuota] = {}
        self._refusal: PrefectSageMakerError | None = None

    def by_name(self, *, fresh: bool = False) -> Mapping[str, AccountQuota]:
        """Return all quotas by name.

        Args:
            fresh: List them again if the listing is older than a minute; default False.

        Raises:
            PrefectSageMakerError: They cannot be read. Without `fresh` an earlier failure is raised again without a
                request.
        """
        with self._lock:  # if hundreds of jobs are created at once, one of them lists
            if self._read is None or (fresh and self._clock() - self._read > _FRESH_SECONDS):
                self._read_all()
            if self._refusal:
                raise self._refusal.with_traceback(None)  # otherwise each raise would make its traceback longer
            return self._quotas

    def _read_all(self) -> None:
        try:
            self._quotas, self._refusal = self._list(), None
        except PrefectSageMakerError as refusal:
            self._refusal = refusal
        self._read = self._clock()

    def _list(self) -> dict[str, AccountQuota]:
        with translating("list the account's quotas for SageMaker"):
            pages = self._client.get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
            rows = [row for page in pages for row in page["Quotas"]]
        known = [row for row in rows if "Value" in row]  # otherwise it has an ErrorReason
        return {row["QuotaName"]: AccountQuota(row["QuotaName"], int(row["Value"]), row["QuotaCode"]) for row in known}


_lock = threading.Lock()


def service_quotas(project: SageMakerProject) -> ServiceQuotas:
    """Return the quotas of a project's account and region; projects that share a client share them."""
    with _lock:
        return _of_client(project.client("service-quotas"))


@lru_cache(maxsize=16)
def _of_client(client: ServiceQuotasClient) -> ServiceQuotas:
    return ServiceQuotas(client)
