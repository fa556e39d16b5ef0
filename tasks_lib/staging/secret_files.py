"""Files that hold keys and passwords by their names. Never looked into; left out of code, and warned of in data. Pure.

By name alone: who may read the bucket, and every job with that code, could read them. What is meant to travel is sent
by name (`!ca.pem` in `.sagemakerignore`), or better as a `secret`.
"""

from __future__ import annotations

from collections.abc import Iterable

from pathspec import GitIgnoreSpec

SECRET_FILES = (
    # environments, but not their templates
    *(".env", ".env.*", "*.env", "!.env.example", "!.env.sample", "!.env.template", "!.env.dist"),
    # keys and certificates
    *("*.pem", "*.key", "*.ppk", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk"),
    # what command lines keep in a home
    *(".aws/", ".ssh/", ".gnupg/", ".kube/", ".azure/", ".gcloud/", ".docker/config.json", ".kaggle/"),
    *(".netrc", "_netrc", ".pgpass", ".my.cnf", ".pypirc", ".npmrc", ".git-credentials", ".htpasswd", ".vault-token"),
    *("credentials.json", "service-account*.json", "application_default_credentials.json"),
    *("*.tfstate", "*.tfstate.*", "secrets.toml", "secrets.yaml", "secrets.yml", "secrets.json"),
)
"""In the syntax of `.gitignore`."""

_SECRET = GitIgnoreSpec.from_lines(SECRET_FILES)
_MOST_NAMED = 5


def looks_secret(name: str) -> bool:
    """Tell whether a file, or a directory whose name ends in `/`, holds secrets by its name.

    Args:
        name: Relative, with `/`.
    """
    return _SECRET.match_file(name)


def named(names: Iterable[str]) -> str:
    """Return the first of some names in one line, and how many more there are."""
    found = list(names)
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return ", ".join(found[:_MOST_NAMED]) + more
