"""Masking of secrets in log lines, failure reasons and artifacts. Pure.

A user who may see a flow run may not see the job's passwords, and Prefect keeps its logs for a long time. Known values
are masked wherever they occur. Of other values, only forms that AWS and HTTP document as credentials are masked: a
guess by entropy would also mask digests and job names. The job's own log in CloudWatch is not changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from worker_toolkit.masking import MASK, spellings

_SECRET_WORDS = {"credential", "credentials", "passphrase", "password", "passwd", "pat", "secret", "secrets", "token"}
_SECRET_ENDS = ("apikey", "password", "passwd", "secret", "token")  # PGPASSWORD, MYTOKEN
_HARMLESS_KEYS = {"foreign", "group", "object", "partition", "primary", "public", "s3", "sort"}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_FORMS = re.compile(
    r"""
    # Access key ids, by the prefixes of IAM's "Unique identifiers", of which these are credentials
    (?-i:(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9]))
    # Session tokens of STS: Base64 that begins with the length and the word "origin" or ".../aws"
    | (?-i:(?<![A-Za-z0-9+/])(?:IQoJb3JpZ2lu|F[wQ]oGZXIvYXdz|AQoDYXdz)[A-Za-z0-9+/=_%-]{16,})
    # Secret keys and session tokens beside their names: in the environment, credentials files, JSON, signed URLs
    | (?P<named>(?:aws_?)?(?:secret_?access_?key|session_?token|security-token|x-amz-signature)["']?\s*[=:]\s*["']?)
      [A-Za-z0-9+/=_%-]{16,}
    # HTTP: Authorization: Basic dXNlcjpwdw==
    | (?P<header>\b(?:proxy-)?authorization["']?\s*[=:]\s*["']?)
      (?:AWS4-HMAC-SHA256\s[^"'\r\n]*|(?:(?:basic|bearer|digest|negotiate|token)\s+)?[^\s"',;]+)
    # URLs: https://user:password@host
    | (?P<url>\b[a-z][a-z0-9+.-]{0,30}://[^\s/:@"']*:)[^\s/?\#"']+(?=@)
    """,
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class Masking:
    """Masks secrets in texts.

    Args:
        values: The known secrets.
    """

    values: frozenset[str] = frozenset()

    @classmethod
    def of(cls, *named: Mapping[str, Any]) -> Masking:
        """Return the masking of all values whose names look secret, such as those of environment variables.

        Args:
            *named: Values by name. Every text in a nested value is masked.
        """
        texts = (text for each in named for name, value in each.items() if is_secret(name) for text in _texts_of(value))
        return cls(frozenset(written for text in texts for written in spellings(text)))

    def __call__(self, text: str) -> str:
        """Return the text with `****` in place of each secret."""
        return _FORMS.sub(_masked, self._without_values(text))

    def _without_values(self, text: str) -> str:
        """Mask the known values; of two that overlap, both are masked completely."""
        spans = sorted(span for value in self.values for span in _occurrences(value, text))
        parts: list[str] = []
        done = 0
        for start, end in spans:
            if start > done or not parts:
                parts += [text[done:start], MASK]
            done = max(done, end)
        return "".join([*parts, text[done:]])


def is_secret(name: str) -> bool:
    """Return whether a name says that its value is secret: `DB_PASSWORD`, `hfToken`, `API_KEY`.

    Whole words count: `tokenizer`, `max_tokens` and `keyword` are not secrets, and neither is `sort_key`.
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    if any(word in _SECRET_WORDS or word.endswith(_SECRET_ENDS) for word in words):
        return True
    *before, last = words or [""]
    return (last == "key" and not _HARMLESS_KEYS & {*before[-1:]}) or (last == "pwd" and bool(before))


def _texts_of(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts_of(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts_of(inner)


def _occurrences(value: str, text: str) -> Iterable[tuple[int, int]]:
    start = text.find(value)
    while start >= 0:
        yield start, start + len(value)
        start = text.find(value, start + 1)


def _masked(found: re.Match[str]) -> str:
    kept = found["named"] or found["header"] or found["url"] or ""
    return f"{kept}{MASK}"
