"""Whose resources these are: the one account and the default region of this backend.

A module of its own, because the light command line and the heavy services say the same. Anybody may import it.
"""

from __future__ import annotations

ACCOUNT = "123456789012"
"""moto's default account, so that roles and jobs agree."""

REGION = "us-east-1"
"""What `env` sets; requests may be signed for any other region."""
