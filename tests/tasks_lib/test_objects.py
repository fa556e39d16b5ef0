"""S3 access for the ledger: conditional writes that are verified, listings, and the bucket's owner."""

import os

import pytest
from aws_doubles import BUCKET, make_block
from prefect_aws import AwsCredentials

from tasks_lib.aws.objects import DocumentDamaged, Objects
from tasks_lib.errors import BucketMissing, NoCredentials, PrefectSageMakerError
from tasks_lib.jobs.s3_layout import Location

PLACE = Location(BUCKET, "demo/x.json")


def test_documents_come_back(objects):
    """A document is read back with the ETag for the next write."""
    assert objects.read(PLACE) is None
    etag = objects.write(PLACE, {"a": [1, "ä"]})
    found = objects.read(PLACE)

    assert ({"a": [1, "ä"]}, etag) == (found.value, found.etag)


def test_only_the_first_of_two_writers_wins(objects):
    """1. Two writers find nothing. 2. One writes. 3. The other gets None and can read the first one's document."""
    assert objects.write(PLACE, {"by": "one"})
    assert objects.write(PLACE, {"by": "other"}) is None
    assert objects.read(PLACE).value == {"by": "one"}


def test_a_change_needs_the_etag_that_was_read(objects):
    """A write with an old ETag returns None and changes nothing (compare and swap)."""
    first = objects.write(PLACE, {"n": 1})
    second = objects.write(PLACE, {"n": 2}, etag=first)

    assert second
    assert objects.write(PLACE, {"n": 3}, etag=first) is None
    assert objects.read(PLACE).value == {"n": 2}


@pytest.mark.parametrize("with_etag", [True, False])
def test_a_write_that_meets_itself_is_a_success(objects, with_etag):
    """A PUT that botocore repeats after a lost response gets a 412.

    If the content is the same, it counts as written.
    """
    first = objects.write(PLACE, {"n": 1}) if with_etag else None
    etag = objects.write(PLACE, {"n": 2}, etag=first)

    assert etag == objects.write(PLACE, {"n": 2}, etag=first)


def test_a_document_that_is_gone_is_no_success(objects):
    """A write with the ETag of a deleted document returns None and writes nothing."""
    etag = objects.write(PLACE, {"n": 1})
    objects.delete(PLACE)

    assert objects.write(PLACE, {"n": 2}, etag=etag) is None
    assert objects.read(PLACE) is None


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"text"', b"\xff\xfe", b"null"])
def test_a_damaged_document_is_reported_with_its_place(objects, body):
    """A damaged document raises an error with its place, and with the ETag that is needed to replace it."""
    objects.put(PLACE, body)

    with pytest.raises(DocumentDamaged, match=PLACE.uri) as caught:
        objects.read(PLACE)
    assert objects.write(PLACE, {"n": 1}, etag=caught.value.etag)


def test_a_document_named_by_its_content_is_written_once(objects):
    """A document named by its content is written once and not again."""
    objects.write_once(PLACE, {"n": 1})
    before = objects.read(PLACE)
    objects.write_once(PLACE, {"n": 1})

    assert objects.read(PLACE) == before
    assert before.value == {"n": 1}


def test_listing_is_relative_and_pages(objects):
    """A listing has all pages (of 1,000) with names relative to the prefix, and without siblings."""
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
    """A prefix without a final slash is not emptied, because `state` would include `state2`."""
    with pytest.raises(AssertionError):
        objects.empty(Location(BUCKET, "demo/state"))


def test_deleting_nothing_is_no_error(objects):
    """Deleting a missing object is not an error, as in S3."""
    objects.delete(PLACE)


def test_a_missing_bucket_is_an_error(objects, tmp_path):
    """Every operation translates the error for a missing bucket; no bare error of botocore or boto3 is raised."""
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
    """Call every operation of `Objects`."""
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
    """Every request has the expected owner, so that S3 refuses a bucket that belongs to another account (X18)."""
    block = make_block(expected_bucket_owner="123456789012")
    seen = requests_of(block)
    use_all(Objects(block), tmp_path)

    assert [name for name, params in seen if "ExpectedBucketOwner" not in params] == []
    assert len(seen) >= 10


def test_another_bucket_has_another_owner(aws, requests_of):
    """The expected owner applies to the project's bucket only: a public data set has another owner."""
    block = make_block(expected_bucket_owner="123456789012")
    block.client("s3").create_bucket(Bucket="another-bucket")
    seen = requests_of(block)
    Objects(block).listing(Location("another-bucket", "x/"))

    assert ["ExpectedBucketOwner" in params for _, params in seen] == [False]


def test_what_we_write_is_encrypted_with_the_projects_key(aws, requests_of, tmp_path):
    """Every written or copied object is encrypted with the project's key (X18)."""
    block = make_block(output_kms_key="arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab")
    seen = requests_of(block)
    use_all(Objects(block), tmp_path)
    written = {name: params.get("SSEKMSKeyId") for name, params in seen if name in ("PutObject", "CopyObject")}

    assert written == dict.fromkeys(("PutObject", "CopyObject"), block.output_kms_key)


def test_missing_credentials_are_an_error(monkeypatch):
    """Missing credentials are an error before any request is sent."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "BOTO_CONFIG"):
        monkeypatch.setenv(name, os.devnull)

    with pytest.raises(NoCredentials):
        Objects(make_block(credentials=AwsCredentials())).listing(Location(BUCKET, "x/"))


def test_a_location_is_its_uri():
    """A location and its URI can be converted in both directions, with or without a key."""
    for uri in ("s3://bucket/a/b", "s3://bucket/a/", "s3://bucket/"):
        assert Location.parse(uri).uri == uri
    assert Location.parse("s3://bucket") == Location("bucket", "")
