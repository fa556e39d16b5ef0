"""Keeps the SageMaker SDKs on this machine. Python runs it at startup if `PYTHONPATH` has its directory.

`python -m local_sagemaker env` adds the directory. The SDKs pass `https://sts.<region>.amazonaws.com` to botocore,
which prefers that to `AWS_ENDPOINT_URL`. They also send telemetry for each use to Amazon by plain HTTP. No environment
variable changes either.

The patches act only while `AWS_ENDPOINT_URL` is a loopback address. They import no module before the program does.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

_LOOPBACK = re.compile(r"127(\.\d+){3}|localhost|::1")
_OF_AWS = re.compile(r"(.+\.)?(amazonaws\.com(\.cn)?|api\.aws|amazonaws\.eu|aws\.dev|aws)", re.IGNORECASE)
_TELEMETRY = re.compile(r"(sm-pysdk|dev-exp)-t-[a-z0-9-]+\.s3\..+", re.IGNORECASE)


def local_endpoint() -> str:
    """Return the endpoint of the local SageMaker; empty if `AWS_ENDPOINT_URL` is not a loopback address."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    return endpoint if _LOOPBACK.fullmatch(_host(endpoint)) else ""


def _host(url: Any) -> str:
    try:
        return urlsplit(str(url)).hostname or ""
    except ValueError:
        return ""


def _keep_clients(module: ModuleType) -> None:
    """Patch `botocore.session.Session.create_client` to replace an AWS endpoint by the local one."""
    create_client = module.Session.create_client
    signature = inspect.signature(create_client)

    @functools.wraps(create_client)
    def create_local_client(*given: Any, **named: Any) -> Any:
        arguments = signature.bind(*given, **named)
        endpoint = arguments.arguments.get("endpoint_url")
        if endpoint and local_endpoint() and _OF_AWS.fullmatch(_host(endpoint)):
            arguments.arguments["endpoint_url"] = local_endpoint()
        return create_client(*arguments.args, **arguments.kwargs)

    module.Session.create_client = create_local_client


def _keep_telemetry(module: ModuleType) -> None:
    """Patch `requests` to refuse the SDKs' telemetry. The SDKs ignore the error, as without a network."""
    send = module.Session.send

    @functools.wraps(send)
    def send_no_telemetry(self: Any, request: Any, **named: Any) -> Any:
        if local_endpoint() and _TELEMETRY.fullmatch(_host(request.url)):
            from requests.exceptions import ConnectionError as NotSent  # noqa: PLC0415 -- the program has imported it

            raise NotSent("local_sagemaker: telemetry stays on this machine", request=request)
        return send(self, request, **named)

    module.Session.send = send_no_telemetry


class _Changed(importlib.machinery.SourceFileLoader):
    """A loader that loads a module as usual, then patches it."""

    change: Callable[[ModuleType], None]

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        self.change(module)


class _Finder:
    """A meta path finder for the modules to patch, when a program imports them.

    Args:
        changes: the patch functions, by module name.
    """

    def __init__(self, changes: dict[str, Callable[[ModuleType], None]]) -> None:
        self._changes = changes

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the module's own spec with a loader that patches it; None for any other module."""
        change = self._changes.get(name)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target) if change else None
        if not change or not spec or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            return None
        spec.loader = _Changed(name, spec.loader.path)
        spec.loader.change = change
        return spec


def _run_next() -> None:
    """Run the `sitecustomize` that Python would have run without this one, since Python runs only the first."""
    here = os.path.realpath(os.path.dirname(__file__))  # noqa: PTH120 -- at the start of each Python: no pathlib
    path = [entry for entry in sys.path if os.path.realpath(entry or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec(__name__, path)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules[__name__] = module
    spec.loader.exec_module(module)


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, _Finder({"botocore.session": _keep_clients, "requests.sessions": _keep_telemetry}))
    _run_next()
