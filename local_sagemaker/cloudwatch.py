"""CloudWatch: moto's metrics, together with the metrics of training jobs.

moto loses its metrics when the server ends. So the points of jobs are kept in files of the home (`runtime.metrics`).
Before moto answers a request, it gets the points that were written since the last request.
"""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from local_sagemaker.moto_services import MotoServices
from local_sagemaker.wire.call import Call

log = logging.getLogger(__name__)

NAMESPACE = "/aws/sagemaker/TrainingJobs"
"""The namespace of metrics of training jobs.

Source of it and of the dimension: Developer Guide, "Monitor and analyze training jobs using Amazon CloudWatch Metrics".
"""

_AT_ONCE = 1000  # points; the most that PutMetricData takes
_HTTP_ERROR = 400


class CloudWatch:
    """CloudWatch as an ASGI application.

    Args:
        directory: the home's directory of metrics; need not exist yet.
        services: moto's services.
    """

    def __init__(self, directory: Path, services: MotoServices) -> None:
        self._directory, self._services = directory, services
        self._given: dict[Path, int] = {}  # by file, how many of its bytes moto has
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        await run_in_threadpool(self._catch_up)
        await self._services(scope, receive, send)

    def _catch_up(self) -> None:
        with self._lock:
            for file in self._directory.glob("*/*/*.jsonl"):
                self._give(file)

    def _give(self, file: Path) -> None:
        """Give moto the new complete lines of the file `<region>/<job>/*.jsonl`."""
        given = self._given.get(file, 0)
        with file.open("rb") as opened:
            opened.seek(given)
            new = opened.read()
        whole = new[: new.rfind(b"\n") + 1]
        data = [_datum(file.parent.name, json.loads(line)) for line in whole.splitlines()]
        for start in range(0, len(data), _AT_ONCE):
            self._put(file.parents[1].name, data[start : start + _AT_ONCE])
        self._given[file] = given + len(whole)

    def _put(self, region: str, data: list[dict[str, Any]]) -> None:
        answer = self._services.ask(
            Call(
                service="monitoring",
                region=region,
                method="POST",
                path="/",
                headers={
                    "content-type": "application/x-amz-json-1.0",
                    "x-amz-target": "GraniteServiceVersion20100801.PutMetricData",
                },
                body=json.dumps({"Namespace": NAMESPACE, "MetricData": data}),
            )
        )
        if answer.status >= _HTTP_ERROR:
            log.error("CloudWatch refuses points: %r", answer.body[:500])


def _datum(job: str, point: dict[str, Any]) -> dict[str, Any]:
    return {
        "MetricName": point["name"],
        "Dimensions": [{"Name": "TrainingJobName", "Value": job}],
        "Timestamp": point["timestamp"] / 1000,
        "Value": point["value"],
    }
