"""The Service Quotas API as one `JsonService`: the quotas of `settings.json`, as AWS lists them.

It is read-only: to change a quota, the user edits the file. `sagemaker/quotas.py` enforces the same quotas.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from local_sagemaker.sagemaker.paging import read_token
from local_sagemaker.wire.errors import ApiError
from local_sagemaker.wire.json_service import Caller, JsonService

Document = Mapping[str, Any]

_SERVICE = "sagemaker"
_LONGEST_PAGE = 100  # API reference, ListServiceQuotas: the maximum of MaxResults; its default is not documented


def quotas_service(quotas: Callable[[], Mapping[str, int]]) -> JsonService:
    """Build the service.

    Args:
        quotas: returns the quotas of the account, by name.
    """
    operations = QuotaOperations(quotas)
    handlers = {"ListServiceQuotas": operations.listing, "GetServiceQuota": operations.get}
    return JsonService("service-quotas", handlers, invalid="IllegalArgumentException")


class QuotaOperations:
    """The operations of Service Quotas.

    Args:
        quotas: returns the quotas of the account, by name.
    """

    def __init__(self, quotas: Callable[[], Mapping[str, int]]) -> None:
        self._quotas = quotas

    def listing(self, request: dict[str, Any], caller: Caller) -> Document:
        """Return one page of quotas, sorted by name. A token is valid only with the request that it came from."""
        asked = {name: value for name, value in request.items() if name not in {"NextToken", "MaxResults"}}
        try:
            page = read_token(request.get("NextToken"), asked)
        except ApiError as error:
            raise ApiError("InvalidPaginationTokenException", error.message) from error
        size = request.get("MaxResults", _LONGEST_PAGE)
        found = [quota for quota in self._all(request, caller) if _is_asked_for(quota, request)]
        shown = found[page.offset : page.offset + size]
        answer = {"Quotas": shown}
        return answer if page.offset + size >= len(found) else {**answer, "NextToken": page.next(size).token(asked)}

    def get(self, request: dict[str, Any], caller: Caller) -> Document:
        """Return one quota by its code."""
        for quota in self._all(request, caller):
            if quota["QuotaCode"] == request["QuotaCode"]:
                return {"Quota": quota}
        raise ApiError("NoSuchResourceException", f"There is no quota {request['QuotaCode']} of {_SERVICE}.")

    def _all(self, request: Document, caller: Caller) -> list[dict[str, Any]]:
        if request["ServiceCode"] != _SERVICE:
            raise ApiError(
                "NoSuchResourceException",
                f"local_sagemaker has quotas of {_SERVICE} and not of {request['ServiceCode']}.",
            )
        return [_quota(name, value, caller) for name, value in sorted(self._quotas().items())]


def _is_asked_for(quota: Document, request: Document) -> bool:
    """Tell whether a quota passes the filters of a listing. All quotas are applied at the account level."""
    is_level = request.get("QuotaAppliedAtLevel", "ACCOUNT") in {"ACCOUNT", "ALL"}
    return is_level and request.get("QuotaCode", quota["QuotaCode"]) == quota["QuotaCode"]


def _quota(name: str, value: int, caller: Caller) -> dict[str, Any]:
    code = f"L-{hashlib.sha256(name.encode()).hexdigest()[:8].upper()}"
    return {
        "ServiceCode": _SERVICE,
        "ServiceName": "Amazon SageMaker",
        "QuotaArn": caller.arn("servicequotas", f"{_SERVICE}/{code}"),
        "QuotaCode": code,
        "QuotaName": name,
        "Value": float(value),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
        "QuotaAppliedAtLevel": "ACCOUNT",
    }
