"""The keys of a home: its own, by which its user's requests are signed, and all that are made from it.

Whoever can read the home can use it, and nobody else: another user of the machine, or a web page, has no key. Other
keys (of a role that was assumed, of a job, of an IAM user) are made from the home's by HMAC, so that a server knows
them again after a restart and nothing has to be kept.

Standard library only, as all that the command line imports.
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
_OF_TOKENS = "session"  # what a token is signed for; one of before tokens had the id of a role was for "token"
_USER = f"arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/user"  # of the home


@dataclass(frozen=True)
class Keys:
    """What a client signs with.

    Attributes:
        access_key: names the key.
        secret_key: signs.
        token: goes along with a temporary key; empty for a lasting one.
    """

    access_key: str
    secret_key: str
    token: str = ""


class UnknownKey(Exception):
    """A key is not one of this home's; the text says why."""


class ExpiredKey(Exception):
    """A temporary key's time is over."""


@dataclass(frozen=True)
class HomeKey:
    """The key of a home.

    Attributes:
        keys: what the home's user signs with.
    """

    keys: Keys

    @classmethod
    def of(cls, directory: Path) -> HomeKey:
        """Return the key of a home, made at its first use."""
        path = directory / _FILE
        part = directory / f"{_FILE}.{os.getpid()}.{secrets.token_hex(4)}"
        if not path.exists():
            made = {"access_key": _new_id("AKIA"), "secret_key": secrets.token_urlsafe(30)}
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(json.dumps(made))
            try:
                os.link(part, path)  # whole, and only where another process was not quicker
            except FileExistsError:
                pass
            finally:
                part.unlink()
        return cls(Keys(**json.loads(path.read_text())))

    @property
    def control(self) -> str:
        """What the addresses below `/_local/` want as a bearer's token."""
        return self._mac("control").hex()

    def temporary(self, bearer: Session | str, seconds: float, access_key: str = "") -> Keys:
        """Return a key that is good for a while.

        Args:
            bearer: who it stands for: the session of a role, or the ARN of another whom the home's user made; empty
                for the home's user.
            seconds: for how long.
            access_key: its name; by default a new one.
        """
        name = access_key or _new_id("ASIA")
        who = {"session": astuple(bearer)} if isinstance(bearer, Session) else {"arn": bearer}
        content = json.dumps({"key": name, "until": int(time.time() + seconds), **who}).encode()
        token = base64.urlsafe_b64encode(self._mac(_OF_TOKENS, content)[:_MAC_BYTES] + content).decode()
        return Keys(name, self.derived(name), _TOKEN_START + token)

    def derived(self, access_key: str) -> str:
        """Return the secret of a key that is not the home's own."""
        return base64.b64encode(self._mac("secret", access_key.encode())).decode()[:_SECRET_LENGTH]

    def session_of(self, token: str) -> Session | None:
        """Return the session of a role for which a temporary key stands; None for all other keys.

        Raises:
            UnknownKey: this home gave out no such token.
        """
        content = self._content(token) if token else {}
        return Session(*content["session"]) if "session" in content else None

    def secret_of(self, access_key: str, token: str) -> str:
        """Return the secret with which a request must have been signed.

        Args:
            access_key: as the request names it.
            token: as it came along; empty where none did.

        Raises:
            UnknownKey: this home has no such key.
            ExpiredKey: it was temporary.
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
        """Return the ARN that a known key stands for; empty for a lasting key that IAM gave to a user."""
        if session := self.session_of(token):
            return session.arn
        if token:
            return str(self._content(token)["arn"]) or _USER  # `GetSessionToken` is for the caller's own
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
