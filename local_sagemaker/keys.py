"""The keys of a home: its own, with which its user signs requests, and all keys that are derived from it.

A process that can read the home can use it. Other users of the machine and web pages have no key. The keys of role
sessions, jobs and IAM users are derived from the home's by HMAC. So a server recognizes them after a restart, and they
need not be stored.

Standard library only, because the command line imports it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from local_sagemaker.account import ACCOUNT, ROLE
from local_sagemaker.iam.sessions import Session

_FILE = "key.json"
_TOKEN_START = "IQoJb3JpZ2lu"  # noqa: S105 -- as AWS's own session tokens begin, so that logs are masked
_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_ID_LENGTH = 16
_SECRET_LENGTH = 40
_MAC_BYTES = 16
# The purpose in the HMAC of a token. It was "token" before tokens had the id of a role, so that older ones are invalid.
_OF_TOKENS = "session"
_USER = f"arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/user"  # the home's user


@dataclass(frozen=True)
class Keys:
    """Credentials with which a client signs requests.

    Attributes:
        access_key: the access key id.
        secret_key: the secret access key.
        token: the session token; empty for a key that does not expire.
    """

    access_key: str
    secret_key: str
    token: str = ""


class UnknownKey(Exception):
    """A key or token does not belong to this home; the text says why."""


class ExpiredKey(Exception):
    """A temporary key has expired."""


@dataclass(frozen=True)
class HomeKey:
    """The key of a home, from which all other keys are derived.

    Attributes:
        keys: the credentials of the home's user.
    """

    keys: Keys

    @classmethod
    def of(cls, directory: Path) -> HomeKey:
        """Return the key of a home; create it at first use."""
        path = directory / _FILE
        part = directory / f"{_FILE}.{os.getpid()}.{secrets.token_hex(4)}"
        if not path.exists():
            made = {"access_key": _new_id("AKIA"), "secret_key": secrets.token_urlsafe(30)}
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(json.dumps(made))
            try:
                os.link(part, path)  # atomic; fails if another process was faster
            except FileExistsError:
                pass
            finally:
                part.unlink()
        return cls(Keys(**json.loads(path.read_text())))

    @property
    def control(self) -> str:
        """The bearer token of the `/_local/` paths."""
        return self._mac("control").hex()

    def temporary(self, bearer: Session | str, seconds: float, access_key: str = "") -> Keys:
        """Return temporary credentials.

        Args:
            bearer: their principal: a role session, or the ARN of a federated user; empty for the home's user.
            seconds: how long they are valid.
            access_key: the access key id; empty creates one.
        """
        name = access_key or _new_id("ASIA")
        who = {"session": astuple(bearer)} if isinstance(bearer, Session) else {"arn": bearer}
        content = json.dumps({"key": name, "until": int(time.time() + seconds), **who}).encode()
        token = base64.urlsafe_b64encode(self._mac(_OF_TOKENS, content)[:_MAC_BYTES] + content).decode()
        return Keys(name, self.derived(name), _TOKEN_START + token)

    def derived(self, access_key: str) -> str:
        """Return the secret of a derived key."""
        return base64.b64encode(self._mac("secret", access_key.encode())).decode()[:_SECRET_LENGTH]

    def session_of(self, token: str) -> Session | None:
        """Return the role session of a session token; None if the key is not one of a role session.

        Raises:
            UnknownKey: the token is not one of this home.
        """
        content = self._content(token) if token else {}
        return Session(*content["session"]) if "session" in content else None

    def secret_of(self, access_key: str, token: str) -> str:
        """Return the secret with which a request must have been signed.

        Args:
            access_key: the access key id of the request.
            token: the session token of the request; empty if it has none.

        Raises:
            UnknownKey: the token is not one of this home, or belongs to another key.
            ExpiredKey: the temporary key has expired.
        """
        if access_key == self.keys.access_key and not token:
            return self.keys.secret_key
        if not access_key.startswith("ASIA") and not token:
            return self.derived(access_key)
        content = self._content(token)
        if content.get("key") != access_key:
            raise UnknownKey(f"The session token is not one of {access_key}.")
        if time.time() > float(content["until"]):
            raise ExpiredKey
        return self.derived(access_key)

    def caller_of(self, access_key: str, token: str) -> str:
        """Return the ARN of a verified key's principal; empty for the key of an IAM user."""
        if session := self.session_of(token):
            return session.arn
        if token:
            return str(self._content(token)["arn"]) or _USER  # empty: `GetSessionToken` gives keys to the caller itself
        return _USER if access_key == self.keys.access_key else ""

    def _content(self, token: str) -> dict[str, Any]:
        try:
            raw = base64.urlsafe_b64decode(token.removeprefix(_TOKEN_START))
        except ValueError:
            raw = b""
        mac, content = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not content or not hmac.compare_digest(mac, self._mac(_OF_TOKENS, content)[:_MAC_BYTES]):
            raise UnknownKey("The session token was not given out by this home.")
        found: dict[str, Any] = json.loads(content)
        return found

    def _mac(self, purpose: str, content: bytes = b"") -> bytes:
        return hmac.digest(self.keys.secret_key.encode(), purpose.encode() + b"\0" + content, hashlib.sha256)


def _new_id(prefix: str) -> str:
    return prefix + "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
