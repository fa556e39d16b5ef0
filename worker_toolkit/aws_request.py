"""Requests to AWS services with the credentials of the job's role: Signature Version 4, JSON 1.1.

boto3 is not used, though many images have it. The bootstrap runs without site-packages (`start.sh`) in any image with
Python, and a second client would be a second way to fail. Credentials come only from where a container of SageMaker has
them: the environment, or the endpoint of container credentials.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import time
from typing import Any, Callable, Mapping, NamedTuple
from urllib.parse import quote, urlsplit

from .errors import BootstrapError

TIMEOUT = 5.0
"""Timeout of each request, in seconds. Without a route out of a VPC, no request is ever answered."""

_ATTEMPTS = 5
_FIRST_PAUSE = 0.5  # seconds, doubled each time: hundreds of hosts may ask at once (limit of GetParameter: 40 a second)
_CONTAINER_CREDENTIALS = "http://169.254.170.2"  # Amazon ECS developer guide, "Task IAM role"
_FULL_URI = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
_SUFFIXES = {
    "cn-": "amazonaws.com.cn",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
    "eu-isoe-": "cloud.adc-e.uk",
}
"""Domains of the partitions other than `amazonaws.com`, by the prefix of their regions (botocore's partitions)."""
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
"""Files in which distributions keep the certificate authorities."""
_TRANSIENT = ("Throttl", "TooManyRequests", "RequestLimitExceeded", "InternalService", "InternalServer", "Unavailable")
_OK, _SERVER_ERROR = 200, 500


class AwsRefusedError(Exception):
    """AWS answered with an error.

    Args:
        code: AWS's error code, such as `AccessDeniedException`.
        message: AWS's message.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Credentials(NamedTuple):
    """Credentials of a role or a user.

    Args:
        access_key: Access key id.
        secret_key: Secret access key, which signs.
        token: Session token; empty for credentials that do not expire.
    """

    access_key: str
    secret_key: str
    token: str


class Request(NamedTuple):
    """An HTTP request: a POST if there is a body, else a GET."""

    url: str
    headers: dict[str, str]
    body: bytes | None = None


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    body: bytes


Send = Callable[[Request], Answer]


class Aws:
    """Access to AWS from this container.

    Args:
        environ: The container's environment variables.
        send: Sends a request, and raises `OSError` if there is no response; None (default) for HTTP.
        clock: Epoch seconds.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        send: Send | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._environ = environ
        self._send = send or _Sender(environ)
        self._clock, self._sleep = clock, sleep
        self._credentials: Credentials | None = None

    def ask(self, service: str, region: str, target: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call an operation of a JSON service, and return its answer.

        Args:
            service: Name in the endpoint and in the signature, such as `ssm`.
            region: The region.
            target: The operation as the protocol names it, such as `AmazonSSM.GetParameter`.
            arguments: Its arguments.

        Raises:
            AwsRefusedError: AWS refused the call.
            BootstrapError: AWS was not reached, or there are no credentials.
        """
        url, body = self.endpoint(service, region), json.dumps(arguments).encode()
        credentials = self.credentials()

        def request() -> Request:
            # Each attempt is signed: a signature is valid for five minutes.
            now = _stamp(self._clock())
            return Request(url, sign(url, target, body, credentials, region=region, service=service, now=now), body)

        answer = self._answer(request, f"{service} in {region} ({url})")
        said = _object(answer.body)
        if answer.status != _OK:
            raise AwsRefusedError(_code(said, answer.status), str(said.get("message") or said.get("Message") or ""))
        return said

    def endpoint(self, service: str, region: str) -> str:
        """Return the URL of a service: that of the SDKs' environment variables, else the public endpoint."""
        own = {"secretsmanager": "SECRETS_MANAGER", "ssm": "SSM"}.get(service, service.upper())
        named = self._environ.get(f"AWS_ENDPOINT_URL_{own}") or self._environ.get("AWS_ENDPOINT_URL")
        suffix = next((name for start, name in _SUFFIXES.items() if region.startswith(start)), "amazonaws.com")
        url = named or f"https://{service}.{region}.{suffix}"
        if urlsplit(url).scheme not in ("http", "https"):
            raise BootstrapError(
                f"The endpoint of {service}, {url!r}, is not an http or https URL: correct the variable."
            )
        return f"{url.rstrip('/')}/"

    def credentials(self) -> Credentials:
        """Return the credentials of the job's role: from the environment, else from the container's endpoint.

        The SDKs have the same order.

        Raises:
            BootstrapError: There are none.
        """
        if self._credentials is None:
            self._credentials = _of_environment(self._environ) or self._of_container()
        return self._credentials

    def _of_container(self) -> Credentials:
        relative = self._environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        url = f"{_CONTAINER_CREDENTIALS}{relative}" if relative else self._environ.get(_FULL_URI)
        if not url or urlsplit(url).scheme not in ("http", "https"):
            raise BootstrapError(
                "There are no AWS credentials in this container to read the task's secrets with: neither "
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, which SageMaker sets, nor AWS_ACCESS_KEY_ID."
            )
        token = self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
        request = Request(url, {"Authorization": token} if token else {})
        answer = self._answer(lambda: request, f"the credentials of the job's role ({url})")
        said = _object(answer.body)
        try:
            return Credentials(said["AccessKeyId"], said["SecretAccessKey"], said.get("Token") or "")
        except KeyError:
            raise BootstrapError(
                f"The job's role gave no credentials (HTTP {answer.status}): see that it exists and trusts SageMaker."
            ) from None

    def _answer(self, request: Callable[[], Request], what: str) -> Answer:
        """Send a request, retry it after transient errors, and return the first other response."""
        trouble = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._sleep(_FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311  jitter
            try:
                answer = self._send(request())
            except OSError as error:
                trouble = str(getattr(error, "reason", error))
                continue
            if not _passes(answer):
                return answer
            trouble = _code(_object(answer.body), answer.status)
        raise BootstrapError(
            f"The task's secrets could not be read: {what} gave no answer in {_ATTEMPTS} attempts ({trouble}). "
            "A job in a VPC needs an interface endpoint of that service in its subnets, or a NAT gateway."
        )


def sign(
    url: str, target: str, body: bytes, credentials: Credentials, *, region: str, service: str, now: str
) -> dict[str, str]:
    """Return the headers of a signed POST (AWS: "Create a signed AWS API request").

    Args:
        url: The URL.
        target: The operation.
        body: The body.
        credentials: The credentials that sign.
        region: Region of the credential scope.
        service: Service of the credential scope.
        now: The time, as `20261121T152700Z`.
    """
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "Host": _host(url),
        "X-Amz-Date": now,
        "X-Amz-Target": target,
    }
    if credentials.token:
        headers["X-Amz-Security-Token"] = credentials.token
    lower = {name.lower(): value for name, value in headers.items()}
    names = ";".join(sorted(lower))
    path = quote(urlsplit(url).path or "/", safe="/~")
    lines = "".join(f"{name}:{lower[name]}\n" for name in sorted(lower))
    request = f"POST\n{path}\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{now[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{credentials.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={credentials.access_key}/{scope}"
    return {**headers, "Authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"}


class _Sender:
    """Sends requests over HTTP. A signed request must not follow a redirect, nor plain HTTP go through a proxy."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._authorities = environ.get("AWS_CA_BUNDLE") or None

    def __call__(self, request: Request) -> Answer:
        # These imports take tens of milliseconds, and most jobs have no secrets.
        import urllib.error  # noqa: PLC0415  see above
        import urllib.request  # noqa: PLC0415  the same

        class NoRedirects(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_: Any) -> None:
                return None

        way = self._by_tls() if request.url.startswith("https:") else urllib.request.ProxyHandler({})
        sent = urllib.request.Request(request.url, request.body, request.headers)  # noqa: S310  see `ask`
        try:
            with urllib.request.build_opener(NoRedirects, way).open(sent, timeout=TIMEOUT) as answer:
                return Answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read())

    def _by_tls(self) -> Any:
        import ssl  # noqa: PLC0415  the same
        import urllib.request  # noqa: PLC0415  the same

        known = ssl.get_default_verify_paths()
        # A Python that was built elsewhere may look for the authorities in a file that this image does not have.
        found = None if known.cafile or known.capath else next(filter(os.path.isfile, _BUNDLES), None)
        context = ssl.create_default_context(cafile=self._authorities or found)
        return urllib.request.HTTPSHandler(context=context)


def _of_environment(environ: Mapping[str, str]) -> Credentials | None:
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    return Credentials(key, secret, environ.get("AWS_SESSION_TOKEN") or "") if key and secret else None


def _host(url: str) -> str:
    parts = urlsplit(url)
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    port = f":{parts.port}" if parts.port not in (None, usual) else ""
    return f"{parts.hostname}{port}"


def _stamp(now: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _code(said: Mapping[str, Any], status: int) -> str:
    """Return the code of an error, such as `com.amazonaws…#AccessDeniedException`, without the part up to `#`."""
    return str(said.get("__type") or said.get("code") or f"HTTP {status}").rpartition("#")[2]


def _passes(answer: Answer) -> bool:
    """Return whether a response is a transient error."""
    code = _code(_object(answer.body), answer.status)
    return answer.status >= _SERVER_ERROR or (answer.status != _OK and any(word in code for word in _TRANSIENT))
