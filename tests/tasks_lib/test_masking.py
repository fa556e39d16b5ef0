"""Masking of secrets in logs and messages: every secret is masked, and ordinary text is unchanged."""

from __future__ import annotations

import json
import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.jobs.masking import Masking, is_secret
from worker_toolkit.masking import MASK, SHORTEST

PRINTABLE = "".join(sorted(set(string.printable) - set(string.whitespace) - {"*"})) + "äß✓"
SECRETS = st.text(PRINTABLE, min_size=SHORTEST).filter(
    lambda text: text.lower() not in {"auto", "false", "none", "null", "true"}
)
TEXTS = st.text(PRINTABLE + " ", max_size=40)
ORDINARY = st.sampled_from([
    "epoch=3 loss=0.123 auc=0.987", "fit-C1.0/algo-1 | 71 rows", "s3://a-bucket/teams/demo/fit/state/",
    "arn:aws:iam::123456789012:role/jobs", "sha256:" + "0f" * 32, "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "7f6a1c2e-3b4d-4e5f-8a9b-0c1d2e3f4a5b", "https://example.com/simple/numpy/", "http://localhost:8080/a@b",
    "mail to someone@example.com", "max_tokens=512", "AROAEXAMPLEEXAMPLE12", "key=value; token count: 12",
    "Traceback (most recent call last):", '{"loss": [0.1, 0.2], "step": 12}', "12:30:01 GET /authorization 200",
])  # fmt: skip


@given(secrets=st.lists(SECRETS, min_size=1, max_size=4), around=st.lists(TEXTS, min_size=5, max_size=5))
def test_no_known_value_survives(secrets, around):
    """No known secret is left in a text, also if secrets overlap or contain each other."""
    mask = Masking.of({f"PASSWORD_{number}": secret for number, secret in enumerate(secrets)})
    text = "".join(part for pair in zip(around, secrets, strict=False) for part in pair)

    for secret in secrets:
        assert secret not in mask(text)


@given(secret=SECRETS, text=TEXTS)
def test_a_text_without_the_value_is_not_changed(secret, text):
    """A text without the secret is unchanged."""
    ways = (secret, quote(secret, safe=""), json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    if Masking()(text) == text and not any(way in text for way in ways):
        assert Masking.of({"TOKEN": secret})(text) == text


@given(parts=st.lists(ORDINARY | st.from_regex(r"[A-Za-z0-9_./ -]{0,30}", fullmatch=True), min_size=1))
def test_ordinary_text_stays(parts):
    """Ordinary lines of jobs, with digests, ARNs, URLs and identifiers, are unchanged."""
    text = " ".join(parts)

    assert Masking.of({"REGION": "eu-west-1", "max_tokens": "512"})(text) == text


@given(secret=SECRETS)
def test_a_secret_is_found_as_urls_and_json_write_it(secret):
    """A secret is also masked in its URL-quoted and JSON-escaped forms."""
    mask = Masking.of({"API_KEY": secret})

    assert mask(f"<{quote(secret, safe='')}>") == f"<{MASK}>"
    assert mask(f"<{json.dumps(secret)[1:-1]}>") == f"<{MASK}>"


def test_a_key_of_many_lines_is_masked_line_by_line():
    """Each line of a multi-line key is masked, because a log has one line at a time."""
    mask = Masking.of({"SSH_PRIVATE_KEY": "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\n-----END KEY-----\n"})

    assert mask("read MIIEpAIBAAKCAQEA") == f"read {MASK}"


def test_nested_hyperparameters_are_looked_into():
    """Nested texts below a secret's name are secrets; numbers and words such as `true` are not."""
    mask = Masking.of({"credentials": {"user": "someone", "pins": ["hidden"], "port": 5432}, "USE_TOKEN": "true"})

    assert mask("someone hidden 5432 true") == f"{MASK} {MASK} 5432 true"


@pytest.mark.parametrize("name", [
    "DB_PASSWORD", "PGPASSWORD", "MYSQL_PWD", "API_KEY", "apiKey", "OPENAI_APIKEY", "hfToken", "HF_TOKEN", "key",
    "AWS_SECRET_ACCESS_KEY", "client-secret", "GITHUB_PAT", "GOOGLE_CREDENTIALS", "private_key", "WANDB_API_KEY",
])  # fmt: skip
def test_names_of_secrets(name):
    """Common names of secrets are recognized."""
    assert is_secret(name)


@pytest.mark.parametrize("name", [
    "tokenizer", "max_tokens", "keyword", "keys_seen", "sort_key", "public_key", "PWD", "monkey", "path", "REGION", "",
    "compat_mode",
])  # fmt: skip
def test_names_of_no_secrets(name):
    """Names that only resemble those of secrets are not recognized."""
    assert not is_secret(name)


@pytest.mark.parametrize(("text", "shown"), [
    ("id AKIAIOSFODNN7EXAMPLE here", f"id {MASK} here"),
    ("ASIAIOSFODNN7EXAMPLE", MASK),
    ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", f"aws_secret_access_key = {MASK}"),
    ('"SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",', f'"SecretAccessKey": "{MASK}",'),
    ("AWS_SESSION_TOKEN=IQoJb3JpZ2luX2VjEJr//////////wEaCXVz", f"AWS_SESSION_TOKEN={MASK}"),
    ("token FwoGZXIvYXdzEJr//////////wEaCXVzLWVhc3Q= end", f"token {MASK} end"),
    ("?X-Amz-Signature=fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024&x=1",
     f"?X-Amz-Signature={MASK}&x=1"),
    ("> Authorization: Bearer abc.def-ghi", f"> Authorization: {MASK}"),
    ("{'authorization': 'Basic dXNlcjpwdw==', 'x': 1}", f"{{'authorization': '{MASK}', 'x': 1}}"),
    ("Authorization: AWS4-HMAC-SHA256 Credential=A/B, SignedHeaders=host, Signature=1f", f"Authorization: {MASK}"),
    ("Proxy-Authorization: Negotiate YIIabc", f"Proxy-Authorization: {MASK}"),
    ("from postgresql://user:pa@ss@host:5432/db", f"from postgresql://user:{MASK}@host:5432/db"),
    ("git+https://:hidden@example.com/x.git", f"git+https://:{MASK}@example.com/x.git"),
])  # fmt: skip
def test_documented_forms(text, shown):
    """Credentials in the formats of AWS and HTTP are masked, and the text around them is kept."""
    assert Masking()(text) == shown


def test_a_long_hostile_line_takes_no_time_to_speak_of():
    """A line of CloudWatch's maximum length that repeats the start of a pattern is processed in linear time."""
    for piece in ("a.", "a://", "authorization", "AKIA", "IQoJb3JpZ2lu", "://:"):
        line = piece * (256 * 1024 // len(piece))
        assert len(Masking.of({"KEY": "absent"})(line)) > 0
