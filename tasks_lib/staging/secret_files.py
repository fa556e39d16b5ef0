"""Names of files that usually hold keys and passwords. They are left out of code and warned of in data. Pure.

Only names are checked; files are not opened. A secret in a bundle could be read by every principal with access to the
bucket, and by every job with that code. A file that is meant to be sent can be allowed by name (`!ca.pem` in
`.sagemakerignore`). A `secret` is the better way.
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
    # what command-line tools keep in a home directory
    *(".aws/", ".ssh/", ".gnupg/", ".kube/", ".azure/", ".gcloud/", ".docker/config.json", ".kaggle/"),
    *(".netrc", "_netrc", ".pgpass", ".my.cnf", ".pypirc", ".npmrc", ".git-credentials", ".htpasswd", ".vault-token"),
    *("credentials.json", "service-account*.json", "application_default_credentials.json"),
    *("*.tfstate", "*.tfstate.*", "secrets.toml", "secrets.yaml", "secrets.yml", "secrets.json"),
)
"""Patterns in the syntax of `.gitignore`."""

_SECRET = GitIgnoreSpec.from_lines(SECRET_FILES)
_MOST_NAMED = 5


def looks_secret(name: str) -> bool:
    """Return whether the name of a file, or of a directory if it ends in `/`, suggests secrets.

    Args:
        name: Relative, with `/`.
    """
    return _SECRET.match_file(name)


def named(names: Iterable[str]) -> str:
    """Return the first five names in one line, and how many more there are."""
    found = list(names)
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return ", ".join(found[:_MOST_NAMED]) + more
