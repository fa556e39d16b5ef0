"""A JSON 1.1 service: dispatches requests by `X-Amz-Target` to handlers, driven by botocore's service model.

The schema is botocore's model, so that a client and this server always agree on names. Each service of this package
that speaks JSON 1.1, such as SageMaker and CloudWatch Logs, is a `JsonService` with a table of handlers.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape
from botocore.utils import parse_timestamp
from botocore.validate import ParamValidator
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from local_sagemaker.account import ACCOUNT, partition_of
from local_sagemaker.wire.constraints import violations
from local_sagemaker.wire.errors import ApiError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Caller:
    """The account and the region of a caller. The region is that of the home; the account is always the same."""

    region: str
    account: str = ACCOUNT

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of one of the caller's resources."""
        return f"arn:{partition_of(self.region)}:{service}:{self.region}:{self.account}:{resource}"


Handler = Callable[[dict[str, Any], Caller], Mapping[str, Any] | None]


@cache
def load_model(service: str) -> ServiceModel:
    """Load the newest model of a service that botocore ships; models in the user's `~/.aws/models` are ignored."""
    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    return ServiceModel(loader.load_service_model(service, "service-2"), service)


def conform(value: Any, shape: Shape) -> Any:
    """Return `value` without nulls and without members that `shape` does not have, at any depth.

    It applies to requests, because a service ignores unknown members, and to responses, so that they contain only what
    the client's model has. Timestamps become epoch seconds with milliseconds, as AWS sends them.

    Raises:
        ValueError: a timestamp has a wrong type.
    """
    if shape.type_name == "structure" and isinstance(value, dict):
        known = {name: value[name] for name in shape.members if value.get(name) is not None}
        return {name: conform(one, shape.members[name]) for name, one in known.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [conform(one, shape.member) for one in value]
    if shape.type_name == "map" and isinstance(value, dict):
        return {key: conform(one, shape.value) for key, one in value.items()}
    if shape.type_name == "timestamp":
        return round(parse_timestamp(value).timestamp(), 3)
    return value


def operation_of(target: str) -> str:
    """Return the operation that an `X-Amz-Target` names."""
    return target.rpartition(".")[2]


def json_response(status: int, document: Mapping[str, Any]) -> Response:
    """Return the JSON 1.1 response for a document; a document with `__type` is an error."""
    headers = {"x-amzn-requestid": str(uuid.uuid4())}
    if "__type" in document:
        headers["x-amzn-errortype"] = document["__type"]
    return Response(json.dumps(document), status, headers, media_type="application/x-amz-json-1.1")


class JsonService:
    """One JSON 1.1 service as an ASGI application.

    Args:
        name: botocore's name of the service, such as `sagemaker`.
        handlers: the handlers of the implemented operations, by name. A handler gets the validated request and may
            raise `ApiError`.
        invalid: the error code for a request that breaks a constraint of the model.
    """

    def __init__(self, name: str, handlers: Mapping[str, Handler], invalid: str = "ValidationException") -> None:
        self._model = load_model(name)
        self._handlers = handlers
        self._invalid = invalid

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request. `scope` has its `region`; the operation is written to it as `aws.operation`."""
        request = Request(scope, receive)
        # A request without a target is for another service with the same signing name, such as `sagemaker-runtime`.
        target = request.headers.get("x-amz-target") or f"{request.method} {request.url.path}"
        scope["aws.operation"] = operation_of(target)
        body = await request.body()
        status, answer = await run_in_threadpool(self.answer, target, body, Caller(scope["region"]))
        await json_response(status, answer)(scope, receive, send)

    def answer(self, target: str, body: bytes, caller: Caller) -> tuple[int, dict[str, Any]]:
        """Return the HTTP status and the document of the response to one request."""
        try:
            return 200, self._run(target, body, caller)
        except ApiError as error:
            return error.status, {"__type": error.code, "message": error.message}
        except Exception as error:
            log.exception("%s failed", target)
            message = f"local_sagemaker failed on {target} ({error!r}); the server's log has the traceback."
            return 500, {"__type": "InternalFailure", "message": message}

    def _run(self, target: str, body: bytes, caller: Caller) -> dict[str, Any]:
        operation = self._operation(target)
        model = self._model.operation_model(operation)
        request = self._parse(body, model.input_shape)
        answer = self._handlers[operation](request, caller) or {}
        return conform(answer, model.output_shape) if model.output_shape else {}

    def _operation(self, target: str) -> str:
        prefix, _, operation = target.rpartition(".")
        if prefix != self._model.metadata["targetPrefix"] or operation not in self._model.operation_names:
            raise ApiError(
                "UnknownOperationException",
                f"{self._model.service_name} of local_sagemaker has no operation {target!r}.",
            )
        if operation not in self._handlers:
            built = ", ".join(sorted(self._handlers))
            raise ApiError(
                "UnknownOperationException",
                f"{operation} is not built in local_sagemaker. What it has of {self._model.service_name}: {built}.",
            )
        return operation

    def _parse(self, body: bytes, shape: Shape) -> dict[str, Any]:
        try:
            request = conform(json.loads(body or b"{}"), shape)
        except (ValueError, RecursionError) as error:
            raise ApiError("SerializationException", f"The request cannot be read: {error}.") from error
        found = violations(request, shape)
        if found:
            errors = "error" if len(found) == 1 else "errors"
            raise ApiError(self._invalid, f"{len(found)} validation {errors} detected: {'; '.join(found)}")
        wrong_types = ParamValidator().validate(request, shape)
        if wrong_types.has_errors():
            raise ApiError("SerializationException", wrong_types.generate_report())
        return dict(request)
