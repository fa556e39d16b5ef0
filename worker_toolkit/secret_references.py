"""References to secrets: the grammar of texts that say where a secret is kept.

    arn:aws:secretsmanager:…        secretsmanager:NAME        each with #KEY for one key of a JSON secret
    arn:aws:ssm:…:parameter/…       ssm:NAME                   NAME may end in :VERSION or :LABEL

`tasks_lib` checks references before a job is made and writes policies from them; the bootstrap reads the values.
"""

from __future__ import annotations

import re
from typing import NamedTuple

FORMS = (
    "'arn:aws:secretsmanager:…', 'secretsmanager:NAME', each with '#KEY' for one key of a secret that is JSON, "
    "'arn:aws:ssm:…:parameter/…' or 'ssm:NAME'"
)

_SECRET = r"[A-Za-z0-9/_+=.@!\-]{1,519}"  # noqa: S105  no secret but the pattern of a name: SecretId, 512 and its end
_PARAMETER = r"[A-Za-z0-9_./\-]{1,1011}(?::[A-Za-z0-9_.\-]{1,100})?"  # with a version or a label
_KEY = r"(?:#(?P<key>.{1,256}))?"
_ARN = r"arn:aws[a-z\-]*:{service}:[a-z0-9\-]+:\d{{12}}:{kind}{name}"
_PATTERNS = {
    "secretsmanager": (rf"secretsmanager:(?P<name>{_SECRET})", ("secretsmanager", "secret:", _SECRET)),
    "ssm": (rf"ssm:(?P<name>{_PARAMETER})", ("ssm", "parameter/", _PARAMETER)),
}
_RANDOM_SUFFIX = re.compile(r"-[A-Za-z0-9]{6}\Z")  # Secrets Manager appends it to the name of each secret


class SecretReference(NamedTuple):
    """Where a secret is kept.

    Args:
        text: The reference as the user wrote it.
        service: `secretsmanager` or `ssm`.
        name: Name of the secret or the parameter; empty if the reference has an ARN.
        arn: ARN of the secret or the parameter; empty if the reference has a name.
        key: Key of the JSON object that the secret is; empty for the whole secret.
    """

    text: str
    service: str
    name: str
    arn: str
    key: str

    @classmethod
    def parse(cls, text: str) -> SecretReference | None:
        """Return what a text refers to. Return None if it is not a reference."""
        for service, (by_name, (part, kind, name)) in _PATTERNS.items():
            by_arn = _ARN.format(service=part, kind=kind, name=name)
            found = re.fullmatch(f"(?:{by_name}|(?P<arn>{by_arn})){_KEY}", text)
            if found:
                return cls(text, service, found["name"] or "", found["arn"] or "", found["key"] or "")
        return None

    @property
    def secret_id(self) -> str:
        """ARN or name, as `GetSecretValue` (`SecretId`) and `GetParameter` (`Name`) take it."""
        return self.arn or self.name

    @property
    def region(self) -> str:
        """Region of the ARN; empty if the reference has a name."""
        return self.arn.split(":")[3] if self.arn else ""

    @property
    def resource(self) -> str:
        """Last part of the ARN in a policy. The random suffix of a secret's ARN is not part of its name."""
        if self.service == "ssm":
            path = self.arn.split(":parameter/", 1)[1] if self.arn else self.name
            return f"parameter/{path.partition(':')[0].lstrip('/')}"
        name = self.arn.split(":secret:", 1)[1] if self.arn else self.name
        return f"secret:{name}" if self.arn and _RANDOM_SUFFIX.search(name) else f"secret:{name}-??????"

    def policy_arn(self, partition: str, region: str, account: str) -> str:
        """Return the ARN for a policy.

        Args:
            partition: Partition of a secret that is referred to by name, such as `aws`.
            region: Its region.
            account: Its account, or `*`.
        """
        head = ":".join(self.arn.split(":")[:5]) or f"arn:{partition}:{self.service}:{region}:{account}"
        return f"{head}:{self.resource}"
