"""S3 as the ledger needs it: conditional writes that are read back, listings, and the bucket's owner."""

import os

import pytest
from aws_doubles import BUCKET, make_block
from prefect_aws import AwsCredentials

from tasks_lib.aws.objects import DocumentDamaged, Objects
from tasks_lib.errors import BucketMissing, NoCredentials, PrefectSageMakerError
from tasks_lib.jobs.s3_layout import Location

PLACE = Location(BUCKET, "demo/x.json")


def test_documents_come_back(objects):
    """With the ETag for the next write."""
    assert objects.read(PLACE) is None
    etag = objects.write(PLACE, {"a": [1, "ä"]})
    found = objects.read(PLACE)

    assert ({"a": [1, "ä"]}, etag) == (found.value, found.etag)


def test_only_the_first_of_two_writers_wins(objects):
    """1. Both find nothing. 2. One writes. 3. The other is told, and sees what stands there."""
    assert objects.write(PLACE, {"by": "one"})
    assert objects.write(PLACE, {"by": "other"}) is None
    assert objects.read(PLACE).value == {"by": "one"}


def test_a_change_needs_the_etag_that_was_read(objects):
    """Compare and swap: who read something older is told."""
    first = objects.write(PLACE, {"n": 1})
    second = objects.write(PLACE, {"n": 2}, etag=first)

    assert second
    assert objects.write(PLACE, {"n": 3}, etag=first) is None
    assert objects.read(PLACE).value == {"n": 2}


@pytest.mark.parametrize("with_etag", [True, False])
def test_a_write_that_meets_itself_is_a_success(objects, with_etag):
    """A PUT whose answer was lost is sent again by botocore and refused (412); our content there means success."""
    first = objects.write(PLACE, {"n": 1}) if with_etag else None
    etag = objects.write(PLACE, {"n": 2}, etag=first)

    assert etag == objects.write(PLACE, {"n": 2}, etag=first)


def test_a_document_that_is_gone_is_no_success(objects):
    """Who wants to change what somebody deleted starts again."""
    etag = objects.write(PLACE, {"n": 1})
    objects.delete(PLACE)

    assert objects.write(PLACE, {"n": 2}, etag=etag) is None
    assert objects.read(PLACE) is None


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"text"', b"\xff\xfe", b"null"])
def test_a_damaged_document_is_told_with_its_place(objects, body):
    """And with its ETag, so that it can be replaced; what to do, whoever reads it knows."""
    objects.put(PLACE, body)

    with pytest.raises(DocumentDamaged, match=PLACE.uri) as caught:
        objects.read(PLACE)
    assert objects.write(PLACE, {"n": 1}, etag=caught.value.etag)


def test_a_document_named_by_its_content_is_written_once(objects):
    """A second time nothing is written, nor read."""
    objects.write_once(PLACE, {"n": 1})
    before = objects.read(PLACE)
    objects.write_once(PLACE, {"n": 1})

    assert objects.read(PLACE) == before
    assert before.value == {"n": 1}


def test_listing_is_relative_and_pages(objects):
    """More than one page of 1,000; names below the prefix; siblings are not in it."""
    for number in range(1003):
        objects.put(Location(BUCKET, f"demo/many/{number:04}"), b"x" * (number % 3))
    objects.put(Location(BUCKET, "demo/many2"), b"sibling")
    found = objects.listing(Location(BUCKET, "demo/many/"))

    assert [f"{number:04}" for number in range(1003)] == [name for name, _ in found]
    assert found.items["0002"].size == 2
    assert '"' not in found.items["0002"].digest
    assert objects.empty(Location(BUCKET, "demo/many/")) == 1003
    assert [name for name, _ in objects.listing(Location(BUCKET, "demo/"))] == ["many2"]


def test_a_prefix_without_its_slash_is_never_emptied(objects):
    """`state` would take `state2` along, as it did elsewhere."""
    with pytest.raises(AssertionError):
        objects.empty(Location(BUCKET, "demo/state"))


def test_deleting_nothing_is_no_error(objects):
    """S3 says so, and so do we."""
    objects.delete(PLACE)


def test_a_missing_bucket_is_told(objects, tmp_path):
    """By each way to it: nobody gets a bare error of botocore or boto3."""
    place = Location("no-such-bucket", "x/")
    (tmp_path / "x").write_text("1")
    calls = [
        lambda: objects.read(place),
        lambda: objects.write(place, {}),
        lambda: objects.listing(place),
        lambda: objects.upload(tmp_path / "x", place),
        lambda: objects.put(place, b""),
        lambda: objects.open(place),
        lambda: objects.copy(place, place),
    ]
    for call in calls[:-1]:
        with pytest.raises(BucketMissing):
            call()
    for call in (calls[-1], lambda: objects.download(place, tmp_path / "y")):
        with pytest.raises(PrefectSageMakerError):
            call()


@pytest.fixture
def requests_of():
    """Record the parameters of every S3 request of a block."""

    def record(block):
        seen = []
        block.client("s3").meta.events.register(
            "provide-client-params.s3.*", lambda params, model, **_: seen.append((model.name, dict(params)))
        )
        return seen

    return record


def use_all(objects, tmp_path):
    """Do everything that `Objects` can do."""
    (tmp_path / "x").write_text("1")
    objects.write(PLACE, {})
    objects.read(PLACE)
    objects.put(Location(BUCKET, "demo/a/x"), b"1")
    objects.open(Location(BUCKET, "demo/a/x")).read()
    objects.upload(tmp_path / "x", Location(BUCKET, "demo/a/y"))
    objects.download(Location(BUCKET, "demo/a/y"), tmp_path / "y")
    objects.copy(Location(BUCKET, "demo/a/y"), Location(BUCKET, "demo/a/z"))
    objects.listing(Location(BUCKET, "demo/"))
    objects.empty(Location(BUCKET, "demo/a/"))
    objects.delete(PLACE)


def test_the_owner_of_the_bucket_is_verified_by_every_request(aws, requests_of, tmp_path):
    """S3 refuses the bucket of somebody else, who took the name meanwhile (X18)."""
    block = make_block(expected_bucket_owner="123456789012")
    seen = requests_of(block)
    use_all(Objects(block), tmp_path)

    assert [name for name, params in seen if "ExpectedBucketOwner" not in params] == []
    assert len(seen) >= 10


def test_another_bucket_has_another_owner(aws, requests_of):
    """A public data set belongs to somebody else; only the project's own bucket is held against the field."""
    block = make_block(expected_bucket_owner="123456789012")
    block.client("s3").create_bucket(Bucket="another-bucket")
    seen = requests_of(block)
    Objects(block).listing(Location("another-bucket", "x/"))

    assert ["ExpectedBucketOwner" in params for _, params in seen] == [False]


def test_what_we_write_is_encrypted_with_the_projects_key(aws, requests_of, tmp_path):
    """Each of our own objects, also those that are copied within S3 (X18)."""
    block = make_block(output_kms_key="arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab")
    seen = requests_of(block)
    use_all(Objects(block), tmp_path)
    written = {name: params.get("SSEKMSKeyId") for name, params in seen if name in ("PutObject", "CopyObject")}

    assert written == dict.fromkeys(("PutObject", "CopyObject"), block.output_kms_key)


def test_no_credentials_are_told(monkeypatch):
    """Before anything else is tried, and before a packet is sent."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "BOTO_CONFIG"):
        monkeypatch.setenv(name, os.devnull)

    with pytest.raises(NoCredentials):
        Objects(make_block(credentials=AwsCredentials())).listing(Location(BUCKET, "x/"))


def test_a_location_is_its_uri():
    """And back, with or without a key."""
    for uri in ("s3://bucket/a/b", "s3://bucket/a/", "s3://bucket/"):
        assert Location.parse(uri).uri == uri
    assert Location.parse("s3://bucket") == Location("bucket", "")
