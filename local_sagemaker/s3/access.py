"""Access control lists (ACLs), as far as a single account needs them.

A new bucket has the ownership `BucketOwnerEnforced`, as on AWS since April 2023. Its objects accept only the ACL
`bucket-owner-full-control`. With another ownership, ACLs that give the owner full control are accepted as well. Public
ACLs and grants to other accounts are always refused: there is one account, and every request is signed.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from local_sagemaker.s3.documents import Value, parse
from local_sagemaker.s3.errors import (
    AccessControlListNotSupported,
    InvalidArgument,
    InvalidBucketAclWithObjectOwnership,
)
from local_sagemaker.s3.errors import NotImplementedByThisServer as NotBuilt
from local_sagemaker.s3.request import check_version
from local_sagemaker.s3.responses import xml_response
from local_sagemaker.s3.schema import read_document

if TYPE_CHECKING:
    from local_sagemaker.s3.request import S3Request
    from local_sagemaker.s3.service import Handlers, Service

OWNERSHIP = "BucketOwnershipControls"  # kind of its document in the index
ENFORCED = "BucketOwnerEnforced"
_HEADER = "x-amz-acl"
_FULL_CONTROL = "FULL_CONTROL"
_XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"'
_OWNERS = frozenset({"private", "bucket-owner-full-control", "bucket-owner-read"})
_OTHERS = frozenset({"public-read", "public-read-write", "authenticated-read", "aws-exec-read", "log-delivery-write"})


def check_object_acl(service: Service, request: S3Request) -> None:
    """Check the canned ACL that a write gives to its object.

    Raises:
        InvalidArgument: S3 has no such canned ACL.
        AccessControlListNotSupported: the bucket does not accept ACLs.
        NotImplementedByThisServer: the ACL grants something to others than the owner.
    """
    canned = _canned(request)
    if canned and canned != "bucket-owner-full-control" and _is_enforced(service, request.bucket):
        raise AccessControlListNotSupported(BucketName=request.bucket)
    _check_owners_own(canned)


def check_new_buckets_acl(request: S3Request, ownership: str) -> None:
    """Check the canned ACL of a new bucket.

    Args:
        request: the request that creates the bucket.
        ownership: the object ownership of the bucket.

    Raises:
        InvalidArgument: S3 has no such canned ACL.
        InvalidBucketAclWithObjectOwnership: the ACL grants something to others, which this ownership forbids.
        NotImplementedByThisServer: the ACL grants something to others than the owner.
    """
    canned = _canned(request)
    if canned in _OTHERS and ownership == ENFORCED:
        raise InvalidBucketAclWithObjectOwnership(BucketName=request.bucket)
    _check_owners_own(canned)


def _canned(request: S3Request) -> str:
    canned = request.headers.get(_HEADER, "")
    if canned and canned not in _OWNERS | _OTHERS:
        raise InvalidArgument(ArgumentName=_HEADER, ArgumentValue=canned)
    return canned


def _check_owners_own(canned: str) -> None:
    if canned in _OTHERS:
        raise NotBuilt(f"This server has one account and no public objects: {canned} cannot be given.", Header=_HEADER)


def _is_enforced(service: Service, bucket: str) -> bool:
    document = service.store.configuration.document(bucket, OWNERSHIP)
    found = parse(document, "OwnershipControls") if document else None
    return found is not None and found.findtext("Rule/ObjectOwnership") == ENFORCED


def get_bucket_acl(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `GetBucketAcl`: the owner has full control."""
    service.store.configuration.get(request.bucket)
    return _owners_list(service)


def get_object_acl(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `GetObjectAcl`: the owner has full control."""
    check_version(request.query)
    service.store.get(*request.target)
    return _owners_list(service)


def put_bucket_acl(service: Service, request: S3Request, body: bytes) -> Response:
    """Serve `PutBucketAcl`: accept an ACL with the owner's grants only, and store nothing."""
    service.store.configuration.get(request.bucket)
    _put(service, request, body)
    return Response()


def put_object_acl(service: Service, request: S3Request, body: bytes) -> Response:
    """Serve `PutObjectAcl`: accept an ACL with the owner's grants only, and store nothing."""
    check_version(request.query)
    service.store.get(*request.target)
    _put(service, request, body)
    return Response()


def _put(service: Service, request: S3Request, body: bytes) -> None:
    canned = _canned(request)
    full = canned == "bucket-owner-full-control"
    if not canned:
        policy = read_document(request.operation, body)
        owner = dict(service.owner)["ID"]
        grants = [(one.get("Permission"), one.get("Grantee", {}).get("ID")) for one in policy.get("Grants", [])]
        full = grants == [(_FULL_CONTROL, owner)]
    if not full and _is_enforced(service, request.bucket):
        raise AccessControlListNotSupported(BucketName=request.bucket)
    _check_owners_own(canned)
    if not canned and not full:
        raise NotBuilt("This server has one account: a list can give everything to the owner, and no more.")


def _owners_list(service: Service) -> Response:
    grant: Value = [(f"Grantee {_XSI}", service.owner), ("Permission", _FULL_CONTROL)]
    return xml_response("AccessControlPolicy", [("Owner", service.owner), ("AccessControlList", [("Grant", grant)])])


HANDLERS: Handlers = {
    "GetBucketAcl": get_bucket_acl,
    "GetObjectAcl": get_object_acl,
    "PutBucketAcl": put_bucket_acl,
    "PutObjectAcl": put_object_acl,
}
