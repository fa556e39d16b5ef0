"""Listings over HTTP with an unmodified boto3: pages, delimiters and both versions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

MANY = [f"many/{number // 100:02}/{number:04}" for number in range(2500)]


@pytest.fixture(scope="module")
def full_bucket(s3: Any) -> str:
    """Return a bucket with 2,500 keys in 25 folders, and some other keys."""
    s3.create_bucket(Bucket="test-listing")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket="test-listing", Key=key), [*MANY, "a b/ü+", "many", "many0"]))
    return "test-listing"


def pages_of(s3: Any, operation: str, **parameters: Any) -> list[dict[str, Any]]:
    return list(s3.get_paginator(operation).paginate(**parameters))


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
def test_pages(s3: Any, full_bucket: str, operation: str) -> None:
    """2,500 keys come in three pages of up to 1,000, each key once and in order."""
    pages = pages_of(s3, operation, Bucket=full_bucket, Prefix="many/")

    assert [len(page["Contents"]) for page in pages] == [1000, 1000, 500]
    assert [page["IsTruncated"] for page in pages] == [True, True, False]
    assert [one["Key"] for page in pages for one in page["Contents"]] == MANY


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
def test_folders(s3: Any, full_bucket: str, operation: str, size: int) -> None:
    """A delimiter groups keys into common prefixes, each listed once, however small the pages."""
    top = pages_of(s3, operation, Bucket=full_bucket, Delimiter="/", PaginationConfig={"PageSize": size})
    below = pages_of(
        s3, operation, Bucket=full_bucket, Delimiter="/", Prefix="many/", PaginationConfig={"PageSize": size}
    )

    assert [one["Prefix"] for page in top for one in page.get("CommonPrefixes", [])] == ["a b/", "many/"]
    assert [one["Key"] for page in top for one in page.get("Contents", [])] == ["many", "many0"]
    assert [one["Prefix"] for page in below for one in page.get("CommonPrefixes", [])] == [
        f"many/{number:02}/" for number in range(25)
    ]


def test_where_a_listing_begins(s3: Any, full_bucket: str) -> None:
    """`StartAfter` and `Marker` are exclusive; a folder that they name is left out completely."""

    def first(operation: Any, **parameters: Any) -> list[str]:
        page = operation(Bucket=full_bucket, MaxKeys=1, **parameters)
        entries = [one["Key"] for one in page.get("Contents", [])]
        return entries + [one["Prefix"] for one in page.get("CommonPrefixes", [])]

    assert first(s3.list_objects_v2, StartAfter="many/00/0041") == ["many/00/0042"]
    assert first(s3.list_objects, Marker="many/00/0041") == ["many/00/0042"]
    assert first(s3.list_objects, Marker="many/", Delimiter="/") == ["many0"]
    assert first(s3.list_objects_v2, Prefix="many/", StartAfter="many/03/", Delimiter="/") == ["many/04/"]
    assert first(s3.list_objects_v2, StartAfter="z") == []


def test_what_an_entry_says(s3: Any, bucket: str) -> None:
    """An entry has size, ETag, time and storage class, and the owner if it is requested."""
    put = s3.put_object(Bucket=bucket, Key="k & <k>", Body=b"123", StorageClass="STANDARD_IA")

    page = s3.list_objects_v2(Bucket=bucket, FetchOwner=True)

    (entry,) = page["Contents"]
    assert (entry["Key"], entry["Size"], entry["ETag"]) == ("k & <k>", 3, put["ETag"])
    assert entry["StorageClass"] == "STANDARD_IA"
    assert entry["LastModified"] == s3.head_object(Bucket=bucket, Key="k & <k>")["LastModified"]
    assert len(entry["Owner"]["ID"]) == 64
    assert (page["KeyCount"], page["MaxKeys"], page["Name"]) == (1, 1000, bucket)
    assert "Owner" not in s3.list_objects_v2(Bucket=bucket)["Contents"][0]


def test_odd_parameters(s3: Any, bucket: str) -> None:
    """`MaxKeys` 0 returns no keys, more than 1,000 counts as 1,000, and an invalid parameter is refused."""
    s3.put_object(Bucket=bucket, Key="k")

    none = s3.list_objects_v2(Bucket=bucket, MaxKeys=0)
    assert (none["KeyCount"], none["IsTruncated"]) == (0, False)
    assert s3.list_objects_v2(Bucket=bucket, MaxKeys=5000)["MaxKeys"] == 1000
    for wrong in ({"MaxKeys": -1}, {"ContinuationToken": "?"}, {"EncodingType": "gzip"}):
        with pytest.raises(ClientError) as refused:
            s3.list_objects_v2(Bucket=bucket, **wrong)
        assert refused.value.response["Error"]["Code"] == "InvalidArgument"
    with pytest.raises(ClientError) as refused:
        s3.list_objects_v2(Bucket="nowhere-at-all")
    assert refused.value.response["Error"]["Code"] == "NoSuchBucket"
