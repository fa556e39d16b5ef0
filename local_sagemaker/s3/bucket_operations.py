"""The operations on buckets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.responses import Response

from local_sagemaker.s3 import access, configurations
from local_sagemaker.s3.access import ENFORCED, check_new_buckets_acl
from local_sagemaker.s3.configurations import documents_of_new_bucket
from local_sagemaker.s3.documents import Value, document, parse
from local_sagemaker.s3.errors import (
    BucketAlreadyOwnedByYou,
    IllegalLocationConstraintException,
    InvalidLocationConstraint,
)
from local_sagemaker.s3.request import check_tags
from local_sagemaker.s3.responses import iso_date, xml_response
from local_sagemaker.s3.schema import read_document

if TYPE_CHECKING:
    from local_sagemaker.s3.request import S3Request
    from local_sagemaker.s3.service import Handlers, Service
    from local_sagemaker.s3.store import ObjectStore

_UNNAMED_REGION = "us-east-1"  # an empty LocationConstraint stands for it
_MOST_BUCKETS = 10_000
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d|EU")  # botocore's list may lack AWS's newest regions


def list_buckets(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `ListBuckets`: pages of buckets, sorted by name."""
    prefix, token = request.query.get("prefix", ""), request.query.get("continuation-token", "")
    limit = request.number("max-buckets", _MOST_BUCKETS, lowest=1, highest=_MOST_BUCKETS)
    region = request.query.get("bucket-region")
    found = [
        one
        for one in service.store.buckets()
        if one.name.startswith(prefix) and one.name > token and region in (None, one.region)
    ]
    buckets: list[tuple[str, Value]] = [
        ("Bucket", [("Name", one.name), ("CreationDate", iso_date(one.created)), ("BucketRegion", one.region)])
        for one in found[:limit]
    ]
    more = found[limit - 1].name if len(found) > limit else None
    return xml_response(
        "ListAllMyBucketsResult",
        [("Owner", service.owner), ("Buckets", buckets), ("Prefix", prefix or None), ("ContinuationToken", more)],
    )


def create_bucket(service: Service, request: S3Request, body: bytes) -> Response:
    """Serve `CreateBucket` in the home's region.

    Creating one's own bucket again without a location constraint succeeds, as in us-east-1.
    """
    given = read_document(request.operation, body) if body.strip() else {}
    constraint = given.get("LocationConstraint")
    if constraint is not None and (constraint == _UNNAMED_REGION or not _REGION.fullmatch(constraint)):
        raise InvalidLocationConstraint(LocationConstraint=constraint)
    if constraint not in (None, service.region):
        raise IllegalLocationConstraintException(
            f"The {constraint} location constraint is incompatible for the region specific endpoint this request was "
            f"sent to. All buckets of this home of local_sagemaker are in {service.region}."
        )
    ownership = request.choice("x-amz-object-ownership", ENFORCED, "BucketOwnerPreferred", "ObjectWriter")
    request.choice("x-amz-bucket-namespace", "global")
    check_new_buckets_acl(request, ownership)
    documents = documents_of_new_bucket(ownership)
    if tags := given.get("Tags"):
        pairs: list[tuple[str, Value]] = [("Tag", [("Key", one["Key"]), ("Value", one["Value"])]) for one in tags]
        check_tags([(one["Key"], one["Value"]) for one in tags], most=50, what="Bucket")
        documents["BucketTagging"] = document("Tagging", [("TagSet", pairs)])
    try:
        service.store.create_bucket(request.bucket, service.region, documents)
    except BucketAlreadyOwnedByYou:
        if constraint:
            raise
    return Response(headers={"location": f"/{request.bucket}"})


def head_bucket(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `HeadBucket`."""
    region = service.store.configuration.get(request.bucket).region
    return Response(headers={"x-amz-bucket-region": region}, media_type="application/xml")


def delete_bucket(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `DeleteBucket`."""
    service.store.delete_bucket(request.bucket)
    return Response(status_code=204)


def get_bucket_location(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `GetBucketLocation`; the answer for us-east-1 is empty."""
    region = service.store.configuration.get(request.bucket).region
    return xml_response("LocationConstraint", "" if region == _UNNAMED_REGION else region)


def bucket_tags(store: ObjectStore) -> dict[str, dict[str, str]]:
    """Return the tags of all tagged buckets, by bucket name."""
    return {
        bucket: {tag.findtext("Key", ""): tag.findtext("Value", "") for tag in parse(content, "Tagging").iter("Tag")}
        for bucket, content in store.configuration.documents("BucketTagging").items()
    }


HANDLERS: Handlers = {
    "ListBuckets": list_buckets,
    "CreateBucket": create_bucket,
    "HeadBucket": head_bucket,
    "DeleteBucket": delete_bucket,
    "GetBucketLocation": get_bucket_location,
    **access.HANDLERS,
    **configurations.HANDLERS,
}
