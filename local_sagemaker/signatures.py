"""Verification of AWS signatures: Version 4, and Version 2 for presigned URLs and forms of S3. Pure.

boto3 still presigns by Version 2 by default.

Sources: IAM User Guide, "Create a signed AWS API request"; S3 API Reference, "Authenticating Requests (AWS Signature
Version 4)" and "(… Version 2)", also for query parameters. The signatures of single chunks of a streamed body are not
verified: the body comes over loopback and is compared with its checksum.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import quote, unquote, unquote_plus

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
_HEADER = re.compile(
    rf"{ALGORITHM}\s+Credential=(?P<credential>[^,\s]+),\s*SignedHeaders=(?P<signed>[^,\s]+),\s*Signature=(?P<signature>\w+)"
)
_CREDENTIAL = re.compile(r"(?P<key>[^/]+)/(?P<date>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")
_SKEW = 15 * 60  # seconds by which the client's clock may differ
_LONGEST = 7 * 24 * 3600  # seconds; the most for which a URL may be presigned
# S3 API Reference, Version 2, "The elements of CanonicalizedResource": the parameters that are part of the signature.
_SUBRESOURCES = frozenset(
    {
        *("acl", "accelerate", "analytics", "cors", "defaultObjectAcl", "delete", "inventory", "lifecycle", "location"),
        *("logging", "metrics", "notification", "partNumber", "policy", "replication", "requestPayment", "restore"),
        *("tagging", "torrent", "uploadId", "uploads", "versionId", "versioning", "versions", "website", "select"),
        *("object-lock", "retention", "legal-hold", "select-type", "encryption"),
        *(f"response-{name}" for name in ("cache-control", "content-disposition", "content-encoding")),
        *(f"response-{name}" for name in ("content-language", "content-type", "expires")),
    }
)
_SPACES = re.compile(r" +")
_MISMATCH = "The request signature we calculated does not match the signature you provided."


class Refused(Exception):
    """A request is refused before it reaches its service.

    Attributes:
        reason: the kind of refusal: `missing`, `malformed`, `query`, `signature`, `late`, `expired`, `policy`,
            `unsigned`, `region` or `large`.
        details: further members of S3's error.
    """

    def __init__(self, reason: str, message: str, **details: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.details = details


@dataclass(frozen=True)
class Signature:
    """The signature of a request, by Version 4.

    Attributes:
        access_key: the access key id.
        date: the date of the credential scope, as `YYYYMMDD`.
        region: the region of the credential scope.
        service: the service of the credential scope, in lower case.
        token: the session token; empty for a key that does not expire.
        presigned: whether the signature is in the query string.
        at: when the request was signed, as in `X-Amz-Date`.
        lasts: seconds for which a presigned URL is valid.
        signed: the names of the signed headers, in lower case.
        given: the signature itself, in hex.
    """

    access_key: str
    date: str
    region: str
    service: str
    token: str
    presigned: bool
    at: str
    lasts: int
    signed: tuple[str, ...]
    given: str

    @classmethod
    def of(cls, headers: Mapping[str, str], query: Mapping[str, str]) -> Signature | PresignedV2Signature | None:
        """Return the signature of a request; None if it has none.

        Raises:
            Refused: the signature is malformed.
        """
        header = headers.get("authorization", "")
        if header:
            found = _HEADER.fullmatch(header.strip())
            if not found:
                raise Refused("malformed", f"This server takes requests that are signed with {ALGORITHM}.")
            at, token = headers.get("x-amz-date", ""), headers.get("x-amz-security-token", "")
            parts, lasts = (found["credential"], found["signed"], found["signature"]), _SKEW
        elif "X-Amz-Signature" in query:
            at, token = query.get("X-Amz-Date", ""), query.get("X-Amz-Security-Token", "")
            parts = (query.get("X-Amz-Credential", ""), query.get("X-Amz-SignedHeaders", ""), query["X-Amz-Signature"])
            text = query.get("X-Amz-Expires", "")
            lasts = int(text) if re.fullmatch(r"\d{1,7}", text) else -1
            if query.get("X-Amz-Algorithm") != ALGORITHM or not 0 <= lasts <= _LONGEST:
                raise Refused("query", "The address is not presigned as Signature Version 4 has it.")
        else:
            return PresignedV2Signature.of(query)
        scope = _CREDENTIAL.fullmatch(parts[0])
        if not scope or not re.fullmatch(r"\d{8}T\d{6}Z", at) or not at.startswith(scope["date"]):
            raise Refused("malformed", "The credential or the date of the signature is malformed.")
        signed = tuple(parts[1].lower().split(";"))
        return cls(
            *(scope["key"], scope["date"], scope["region"], scope["service"].lower(), token, not header),
            *(at, lasts, signed, parts[2]),
        )

    def check(self, request: Request, secret_of: Callable[[str, str], str], now: float) -> None:
        """Verify that a request was signed with its access key, and that the signature has not expired.

        Args:
            request: the request.
            secret_of: returns the secret for an access key id and a session token.
            now: epoch seconds.

        Raises:
            Refused: the signature is wrong or has expired.
        """
        age = now - _moment(self.at)
        if self.presigned and (age > self.lasts or not self.lasts):
            raise Refused("expired", "Request has expired")
        if age < -_SKEW or (not self.presigned and age > _SKEW):
            raise Refused("late", "The difference between the request time and the server's time is too large.")
        secret = secret_of(self.access_key, self.token)
        if "host" not in self.signed:
            raise Refused("malformed", "The header Host is not signed.")
        # Many of them are parameters of S3: `x-amz-copy-source` turns a put into a copy.
        unsigned = [name for name in request.headers if name.startswith("x-amz-") and name not in self.signed]
        if self.service == "s3" and unsigned:
            told = "There were headers present in the request which were not signed"
            raise Refused("unsigned", told, HeadersNotSigned=", ".join(unsigned))
        if not any(_same(self.given, self._made(text, secret)) for text in request.canonical(self)):
            raise Refused("signature", _MISMATCH)

    def _made(self, canonical: str, secret: str) -> str:
        scope = f"{self.date}/{self.region}/{self.service}/aws4_request"
        digest = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
        key = _signing_key(secret, self.date, self.region, self.service)
        return hmac.new(key, f"{ALGORITHM}\n{self.at}\n{scope}\n{digest}".encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class PresignedV2Signature:
    """The signature of a URL that was presigned by Version 2, which only S3 has.

    Attributes:
        access_key: the access key id.
        until: when it expires, in epoch seconds.
        token: the session token; empty for a key that does not expire.
        given: the signature itself, in base64.
    """

    access_key: str
    until: str
    token: str
    given: str
    service: str = "s3"
    region: str = ""
    presigned: bool = True

    @classmethod
    def of(cls, query: Mapping[str, str]) -> PresignedV2Signature | None:
        """Return the signature in a query string; None if it has none.

        Raises:
            Refused: its expiry is malformed.
        """
        if not {"AWSAccessKeyId", "Signature", "Expires"} <= set(query):
            return None
        if not re.fullmatch(r"\d{1,11}", query["Expires"]):
            raise Refused("malformed", "Invalid date (should be seconds since epoch).")
        token = query.get("x-amz-security-token", "")
        return cls(query["AWSAccessKeyId"], query["Expires"], token, query["Signature"])

    def check(self, request: Request, secret_of: Callable[[str, str], str], now: float) -> None:
        """Verify the signature and its expiry, as `Signature.check` does."""
        if now > int(self.until):
            raise Refused("expired", "Request has expired")
        secret = secret_of(self.access_key, self.token)
        text = request.canonical_of_2006(self.until)
        made = base64.b64encode(hmac.digest(secret.encode(), text.encode("utf-8", "surrogateescape"), hashlib.sha1))
        if not _same(self.given, made.decode()):
            raise Refused("signature", _MISMATCH)


@dataclass(frozen=True)
class FormSignature:
    """The signature of a form's policy, by Version 4 or 2: a presigned POST, which only S3 has.

    Source: S3 API Reference, "Authenticating Requests in Browser-Based Uploads Using POST". The policy has the expiry.

    Attributes:
        access_key: the access key id.
        token: the session token; empty for a key that does not expire.
        policy: the policy as it was signed, in base64.
        given: the signature itself: hex in Version 4, base64 in Version 2.
        region: the region of the credential scope; empty in Version 2.
        date: the date of the credential scope; empty in Version 2.
    """

    access_key: str
    token: str
    policy: str
    given: str
    region: str = ""
    date: str = ""
    service: str = "s3"

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> FormSignature | None:
        """Return the signature of a form; None if it has neither policy nor signature.

        Args:
            fields: the form's fields, by lower-case names.

        Raises:
            Refused: the signature is malformed or incomplete.
        """
        if not {"policy", "signature", "x-amz-signature"} & fields.keys():
            return None
        token, policy = fields.get("x-amz-security-token", ""), fields.get("policy", "")
        if {"awsaccesskeyid", "signature", "policy"} <= fields.keys():
            return cls(fields["awsaccesskeyid"], token, policy, fields["signature"])
        scope = _CREDENTIAL.fullmatch(fields.get("x-amz-credential", ""))
        if not scope or not policy or scope["service"].lower() != "s3" or "x-amz-signature" not in fields:
            raise Refused("malformed", "The form lacks a policy, a credential or a signature.")
        return cls(scope["key"], token, policy, fields["x-amz-signature"], scope["region"], scope["date"])

    def check(self, secret_of: Callable[[str, str], str]) -> None:
        """Verify that the policy was signed with the access key of the form.

        Args:
            secret_of: returns the secret for an access key id and a session token.

        Raises:
            Refused: the signature is wrong.
        """
        secret = secret_of(self.access_key, self.token)
        policy = self.policy.encode("utf-8", "surrogateescape")
        if self.date:
            made = hmac.new(_signing_key(secret, self.date, self.region, "s3"), policy, hashlib.sha256).hexdigest()
        else:
            made = base64.b64encode(hmac.digest(secret.encode(), policy, hashlib.sha1)).decode()
        if not _same(self.given, made):
            raise Refused("signature", _MISMATCH)


@dataclass(frozen=True)
class Request:
    """The parts of a request that are signed.

    Attributes:
        method: the HTTP method.
        path: the path as received, percent-encoded.
        query: the query string as received, without the question mark.
        headers: the headers, by lower-case names.
        payload: the SHA-256 of the body in hex, or a literal such as `UNSIGNED-PAYLOAD`.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    payload: str

    def canonical(self, signature: Signature) -> list[str]:
        """Return the canonical requests: with the query as received, and re-encoded. Clients sign either."""
        path = self.path if signature.service == "s3" else quote(_normal(self.path), safe="/~")
        headers = "".join(f"{name}:{_value(self.headers.get(name, ''))}\n" for name in signature.signed)
        end = f"{headers}\n{';'.join(signature.signed)}\n{self.payload}"
        pairs = [pair.partition("=")[::2] for pair in self.query.split("&") if pair]
        pairs = [pair for pair in pairs if pair[0] != "X-Amz-Signature"]
        encoded = [tuple(quote(unquote(part), safe="-_.~") for part in pair) for pair in pairs]
        queries = {"&".join(f"{name}={value}" for name, value in sorted(written)) for written in (pairs, encoded)}
        return [f"{self.method}\n{path or '/'}\n{query}\n{end}" for query in queries]

    def canonical_of_2006(self, until: str) -> str:
        """Return the string to sign of Version 2 for a presigned URL that expires at `until`."""
        pairs = [pair.partition("=") for pair in self.query.split("&") if pair]
        # Headers that the client signed may be in the query string.
        told = {unquote_plus(name).lower(): unquote_plus(value) for name, _, value in pairs}
        told = {name: value for name, value in told.items() if name.startswith(("x-amz-", "content-"))}
        told |= dict(self.headers)
        plain = [told.get(name, "") for name in ("content-md5", "content-type")]
        amazons = sorted((name, value) for name, value in told.items() if name.startswith("x-amz-"))
        kept = sorted((name, sign, unquote(value)) for name, sign, value in pairs if unquote(name) in _SUBRESOURCES)
        resource = self.path + ("?" if kept else "") + "&".join(name + sign + value for name, sign, value in kept)
        lines = [self.method, *plain, until, *(f"{name}:{value}" for name, value in amazons), resource]
        return "\n".join(lines)


def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    return key


def _moment(at: str) -> float:
    try:
        return datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()
    except ValueError as error:
        raise Refused("malformed", f"{at} is not a date.") from error


def _same(given: str, made: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), made.encode())


def _value(text: str) -> str:
    return _SPACES.sub(" ", text.strip())


def _normal(path: str) -> str:
    """Return a path without empty and dot segments, as it is signed for all services but S3."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            kept[-1:] = []
        elif part not in ("", "."):
            kept.append(part)
    return "/" + "/".join(kept) + ("/" if kept and path.endswith("/") else "")
