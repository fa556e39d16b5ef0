"""The operations on buckets and their configuration; only `local_sagemaker.s3` imports it.

A configuration is kept as the document that the client sent and given back, not obeyed: nothing here is public,
expires, or is encrypted. One that was never set answers 404 with S3's code for it, also where AWS has defaults by now
(encryption, public access block), so that a client's omission can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from starlette.responses import Response

from local_sagemaker.s3.documents import Value, parse
from local_sagemaker.s3.errors import (
    BucketAlreadyOwnedByYou,
    IllegalLocationConstraintException,
    MalformedXML,
    Unset,
)
from local_sagemaker.s3.responses import iso_date, xml_response

if TYPE_CHECKING:
    from local_sagemaker.s3.request import S3Request
    from local_sagemaker.s3.service import Handler, Handlers, Service
    from local_sagemaker.s3.store import ObjectStore

_UNNAMED_REGION = "us-east-1"  # it is told by an empty LocationConstraint
_MOST_BUCKETS = 10_000


@dataclass(frozen=True)
class _Configuration:
    """A configuration of a bucket: root of its document (empty: JSON), code and message while it is unset."""

    root: str
    code: str
    message: str


_CONFIGURATIONS = {
    "BucketPolicy": _Configuration("", "NoSuchBucketPolicy", "The bucket policy does not exist"),
    "PublicAccessBlock": _Configuration(
        "PublicAccessBlockConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
        "The public access block configuration was not found",
    ),
    "BucketEncryption": _Configuration(
        "ServerSideEncryptionConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
        "The server side encryption configuration was not found",
    ),
    "BucketTagging": _Configuration("Tagging", "NoSuchTagSet", "The TagSet does not exist"),
    "BucketLifecycleConfiguration": _Configuration(
        "LifecycleConfiguration",
        "NoSuchLifecycleConfiguration",
        "The lifecycle configuration does not exist",
    ),
    "BucketCors": _Configuration(
        "CORSConfiguration", "NoSuchCORSConfiguration", "The CORS configuration does not exist"
    ),
    "BucketOwnershipControls": _Configuration(
        "OwnershipControls",
        "OwnershipControlsNotFoundError",
        "The bucket ownership controls were not found",
    ),
}


def list_buckets(service: Service, request: S3Request, _body: bytes) -> Response:
    """`ListBuckets`, by name and in pages."""
    prefix, token = request.query.get("prefix", ""), request.query.get("continuation-token", "")
    limit = request.number("max-buckets", _MOST_BUCKETS, lowest=1, highest=_MOST_BUCKETS)
    found = [one for one in service.store.buckets() if one.name.startswith(prefix) and one.name > token]
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
    """`CreateBucket`, in the region of the home; without a constraint done again without an error, as in us-east-1."""
    constraint = parse(body, "CreateBucketConfiguration").findtext("LocationConstraint") if body.strip() else None
    if constraint not in (None, "", service.region):
        raise IllegalLocationConstraintException(
            f"The {constraint} location constraint is incompatible for the region specific endpoint this request was "
            f"sent to. All buckets of this home of local_sagemaker are in {service.region}."
        )
    try:
        service.store.create_bucket(request.bucket, service.region)
    except BucketAlreadyOwnedByYou:
        if constraint:
            raise
    return Response(headers={"location": f"/{request.bucket}"})


def head_bucket(service: Service, request: S3Request, _body: bytes) -> Response:
    """`HeadBucket`."""
    region = service.store.configuration.get(request.bucket).region
    return Response(headers={"x-amz-bucket-region": region}, media_type="application/xml")


def delete_bucket(service: Service, request: S3Request, _body: bytes) -> Response:
    """`DeleteBucket`."""
    service.store.delete_bucket(request.bucket)
    return Response(status_code=204)


def get_bucket_location(service: Service, request: S3Request, _body: bytes) -> Response:
    """`GetBucketLocation`; us-east-1 is told by an empty answer."""
    region = service.store.configuration.get(request.bucket).region
    return xml_response("LocationConstraint", "" if region == _UNNAMED_REGION else region)


def get_bucket_versioning(service: Service, request: S3Request, _body: bytes) -> Response:
    """`GetBucketVersioning`: never was enabled."""
    service.store.configuration.get(request.bucket)
    return xml_response("VersioningConfiguration", [])


def bucket_tags(store: ObjectStore) -> dict[str, dict[str, str]]:
    """Return the tags of all buckets that have any, by their names."""
    return {
        bucket: {tag.findtext("Key", ""): tag.findtext("Value", "") for tag in parse(content, "Tagging").iter("Tag")}
        for bucket, content in store.configuration.documents("BucketTagging").items()
    }


def _get_configuration(noun: str, service: Service, request: S3Request, _body: bytes) -> Response:
    configuration = _CONFIGURATIONS[noun]
    content = service.store.configuration.document(request.bucket, noun)
    if content is None:
        raise Unset(configuration.code, configuration.message, BucketName=request.bucket)
    return Response(content, media_type="application/xml" if configuration.root else "application/json")


def _put_configuration(noun: str, service: Service, request: S3Request, body: bytes) -> Response:
    root = _CONFIGURATIONS[noun].root
    if root:
        parse(body, root)
    elif not body.strip():
        raise MalformedXML("The document is empty.")
    service.store.configuration.put_document(request.bucket, noun, body)
    return Response(status_code=200 if root else 204)


def _delete_configuration(noun: str, service: Service, request: S3Request, _body: bytes) -> Response:
    service.store.configuration.delete_document(request.bucket, noun)
    return Response(status_code=204)


def _of_configurations() -> dict[str, Handler]:
    handlers: dict[str, Handler] = {}
    for noun in _CONFIGURATIONS:
        handlers[f"Get{noun}"] = partial(_get_configuration, noun)
        handlers[f"Put{noun}"] = partial(_put_configuration, noun)
        handlers[f"Delete{noun}"] = partial(_delete_configuration, noun)
    # The one whose name is irregular.
    handlers["DeleteBucketLifecycle"] = handlers.pop("DeleteBucketLifecycleConfiguration")
    return handlers


HANDLERS: Handlers = {
    "ListBuckets": list_buckets,
    "CreateBucket": create_bucket,
    "HeadBucket": head_bucket,
    "DeleteBucket": delete_bucket,
    "GetBucketLocation": get_bucket_location,
    "GetBucketVersioning": get_bucket_versioning,
    **_of_configurations(),
}
