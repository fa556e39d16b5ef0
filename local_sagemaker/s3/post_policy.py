"""Evaluation of the policy of a presigned form.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from local_sagemaker.s3.errors import AccessDenied, EntityTooLarge, EntityTooSmall, InvalidPolicyDocument

if TYPE_CHECKING:
    from collections.abc import Mapping

# Fields that a form may have without a condition.
_FREE = frozenset({"x-amz-signature", "signature", "awsaccesskeyid", "policy", "file", "bucket"})
_IGNORED = "x-ignore-"
_RANGE = "content-length-range"


@dataclass(frozen=True)
class Lengths:
    """The allowed length of the file in bytes; `most` is None for no limit but S3's."""

    least: int = 0
    most: int | None = None

    def check_most(self, size: int) -> None:
        """Check a size that may still grow.

        Raises:
            EntityTooLarge: the size is already too large.
        """
        if self.most is not None and size > self.most:
            raise EntityTooLarge(ProposedSize=size, MaxSizeAllowed=self.most)

    def check(self, size: int) -> None:
        """Check the final size.

        Raises:
            EntityTooLarge, EntityTooSmall: the policy does not allow this size.
        """
        self.check_most(size)
        if size < self.least:
            raise EntityTooSmall(ProposedSize=size, MinSizeAllowed=self.least)


def check_expiry(policy: str, now: float) -> None:
    """Check that a policy has not expired.

    Args:
        policy: the policy in base64.
        now: epoch seconds.

    Raises:
        InvalidPolicyDocument: the policy is malformed.
        AccessDenied: the policy has expired.
    """
    if now > _expiration(_parsed(policy)):
        raise AccessDenied("Invalid according to Policy: Policy expired.")


def check_form(fields: Mapping[str, str], bucket: str) -> Lengths:
    """Check the fields of a form against its policy and return the allowed length of the file.

    Args:
        fields: fields by lower-case names; the key already includes the file's name.
        bucket: bucket to which the form was sent.

    Raises:
        InvalidPolicyDocument: the policy is malformed.
        AccessDenied: a condition does not hold, or no condition names a field.
    """
    policy = _parsed(fields.get("policy", ""))
    conditions = policy.get("conditions")
    if not isinstance(conditions, list):
        raise InvalidPolicyDocument("Invalid Policy: Invalid 'conditions' value: must be a List.")
    given = {**fields, "bucket": bucket}
    lengths, named = Lengths(), set(_FREE)
    for condition in conditions:
        for operator, name, value in _read(condition):
            if operator == _RANGE:
                lengths = Lengths(_whole(name), _whole(value))
                continue
            field = str(name).removeprefix("$").lower()
            named.add(field)
            held = given.get(field, "").startswith(value) if operator == "starts-with" else given.get(field) == value
            if not held or field not in given:
                raise AccessDenied(f"Invalid according to Policy: Policy Condition failed: {json.dumps(condition)}")
    if extra := [name for name in fields if name not in named and not name.startswith(_IGNORED)]:
        raise AccessDenied(f"Invalid according to Policy: Extra input fields: {', '.join(extra)}")
    return lengths


def _parsed(text: str) -> dict[str, Any]:
    try:
        policy = json.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise InvalidPolicyDocument("Invalid Policy: Invalid JSON.") from error
    if not isinstance(policy, dict):
        raise InvalidPolicyDocument("Invalid Policy: Invalid JSON.")
    return policy


def _expiration(policy: dict[str, Any]) -> float:
    text = policy.get("expiration")
    if not isinstance(text, str):
        raise InvalidPolicyDocument("Invalid Policy: Policy missing expiration.")
    for form in ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%fZ"):
        try:
            return datetime.strptime(f"{text}+0000", f"{form}%z").timestamp()
        except ValueError:  # noqa: PERF203 -- two forms
            continue
    raise InvalidPolicyDocument(f"Invalid Policy: Invalid 'expiration' value: '{text}'")


def _read(condition: Any) -> list[tuple[str, Any, Any]]:
    """Return operator, field and value of a condition; the short form may have several.

    Raises:
        InvalidPolicyDocument: the condition is malformed.
    """
    if isinstance(condition, dict) and condition and all(isinstance(value, str) for value in condition.values()):
        return [("eq", name, value) for name, value in condition.items()]
    if isinstance(condition, list) and len(condition) == 3:  # noqa: PLR2004 -- operator, field, value
        operator = str(condition[0]).lower()
        if operator == _RANGE:
            return [(operator, condition[1], condition[2])]
        if operator in ("eq", "starts-with") and str(condition[1]).startswith("$") and isinstance(condition[2], str):
            return [(operator, condition[1], condition[2])]
    raise InvalidPolicyDocument(f"Invalid Policy: Invalid condition: {json.dumps(condition)}")


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not str(value).isdecimal():
        raise InvalidPolicyDocument(f"Invalid Policy: Invalid {_RANGE}: {value!r} is not a number of bytes.")
    return int(value)
