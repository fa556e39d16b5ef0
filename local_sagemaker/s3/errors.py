"""The errors of S3, as its REST API names them: class `NoSuchKey` is the code `NoSuchKey` on the wire.

    S3Error
    ├── 304  NotModified
    ├── 400  AccessControlListNotSupported, BadDigest, BadRequest, EntityTooLarge, EntityTooSmall,
    │        IllegalLocationConstraintException, IncompleteBody, InvalidArgument, InvalidBucketAclWithObjectOwnership,
    │        InvalidBucketName, InvalidDigest, InvalidEncryptionAlgorithmError, InvalidLocationConstraint,
    │        InvalidPart, InvalidPartOrder,
    │        InvalidPolicyDocument, InvalidRedirectLocation, InvalidRequest, InvalidStorageClass, InvalidTag,
    │        InvalidURI, KeyTooLongError, MalformedPOSTRequest, MalformedPolicy, MalformedTrailerError, MalformedXML,
    │        MaxPostPreDataLengthExceededError, MetadataTooLarge,
    │        XAmzContentChecksumMismatch, XAmzContentSHA256Mismatch
    ├── 403  AccessDenied
    ├── 404  NoSuchBucket, NoSuchKey, NoSuchUpload, and the configurations that a bucket lacks (`Unset`)
    ├── 409  BucketAlreadyOwnedByYou, BucketNotEmpty, InvalidBucketState
    ├── 411  MissingContentLength
    ├── 412  PreconditionFailed
    ├── 416  InvalidPartNumber, InvalidRange
    ├── 500  InternalError
    └── 501  NotImplementedByThisServer (code `NotImplemented`)

The store and the REST API raise the same classes: a second tree of errors would have to be kept in step with this one.
Codes, status and wording follow https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
This module uses the standard library only, so any module of `local_sagemaker` may import it.
"""

from __future__ import annotations

from typing import ClassVar


class S3Error(Exception):
    """S3 refuses a request.

    Args:
        message: what happened; by default AWS's message for the code.
        details: further elements of the error document by name (`Key="a/b"`, `BucketName="data"`).
    """

    code: ClassVar[str] = ""
    status: ClassVar[int] = 400
    default_message: ClassVar[str] = "The request is not valid."

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "code" not in cls.__dict__:
            cls.code = cls.__name__

    def __init__(self, message: str | None = None, **details: str | int) -> None:
        self.message = message or self.default_message
        self.details = details
        told = ", ".join(f"{name}={value}" for name, value in details.items())
        super().__init__(f"{self.code}: {self.message}" + (f" ({told})" if told else ""))


class NotModified(S3Error):
    """A conditional read asks for content that the client already has."""

    status = 304
    default_message = "Not Modified"


class AccessControlListNotSupported(S3Error):
    """The bucket has the ownership `BucketOwnerEnforced` and does not accept ACLs."""

    default_message = "The bucket does not allow ACLs"


class BadDigest(S3Error):
    """The body does not match its `Content-MD5` or its checksum."""

    default_message = "The Content-MD5 or checksum value that you specified did not match what the server received."


class BadRequest(S3Error):
    """An object or a bucket gets too many tags."""

    default_message = "Bad Request"


class EntityTooLarge(S3Error):
    """A body is too long: 5 GiB per object, less for a document or by the policy of a form."""

    default_message = "Your proposed upload exceeds the maximum allowed object size."


class EntityTooSmall(S3Error):
    """A part other than the last has less than 5 MiB, or a file is too short for its form's policy."""

    default_message = "Your proposed upload is smaller than the minimum allowed object size."


class IllegalLocationConstraintException(S3Error):
    """This endpoint cannot create a bucket in that region."""

    default_message = (
        "The location constraint is incompatible for the region specific endpoint this request was sent to."
    )


class IncompleteBody(S3Error):
    """The body does not have the announced length, or its framing is malformed."""

    default_message = "You did not provide the number of bytes specified by the Content-Length HTTP header."


class InvalidArgument(S3Error):
    """A parameter or header has a value that S3 does not accept."""

    default_message = "Invalid Argument"


class InvalidBucketAclWithObjectOwnership(S3Error):
    """A new bucket has an ACL for others and the ownership `BucketOwnerEnforced`."""

    default_message = "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"


class InvalidBucketName(S3Error):
    """The name of a bucket breaks S3's naming rules."""

    default_message = "The specified bucket is not valid."


class InvalidDigest(S3Error):
    """`Content-MD5` is not an MD5 digest."""

    default_message = "The Content-MD5 you specified is not valid."


class InvalidEncryptionAlgorithmError(S3Error):
    """S3 has no such encryption algorithm."""

    default_message = "The Encryption request you specified is not valid. Supported value: AES256."


class InvalidLocationConstraint(S3Error):
    """The location constraint is not a region, or is us-east-1, which is never given by name."""

    default_message = "The specified location-constraint is not valid"


class InvalidPart(S3Error):
    """A part named in a completion does not exist or has another ETag or checksum."""

    default_message = (
        "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified"
        " entity tag may not match the part's entity tag."
    )


class InvalidPartOrder(S3Error):
    """The parts of a completion are not in ascending order."""

    default_message = "The list of parts was not in ascending order. Parts must be ordered by part number."


class InvalidPolicyDocument(S3Error):
    """The policy of a form is malformed."""

    default_message = "The content of the form does not meet the conditions specified in the policy document."


class InvalidRedirectLocation(S3Error):
    """The redirect location of an object is neither a URL nor a key."""

    default_message = (
        "The website redirect location must have a prefix of 'http://' or 'https://' or '/' for redirects."
    )


class InvalidRequest(S3Error):
    """Headers or parameters contradict each other, or the request is not allowed in this form."""

    default_message = "Invalid Request"


class InvalidStorageClass(S3Error):
    """S3 has no such storage class."""

    default_message = "The storage class you specified is not valid"


class InvalidTag(S3Error):
    """A tag is too long, has invalid characters, is reserved for AWS, or is given twice."""

    default_message = "The tag provided was not a valid tag."


class InvalidURI(S3Error):
    """The path or the query is not percent-encoded UTF-8."""

    default_message = "Couldn't parse the specified URI."


class KeyTooLongError(S3Error):
    """A key has more than 1,024 bytes of UTF-8."""

    default_message = "Your key is too long."


class MalformedPOSTRequest(S3Error):
    """The body of a form is not well-formed `multipart/form-data`."""

    default_message = "The body of your POST request is not well-formed multipart/form-data."


class MalformedPolicy(S3Error):
    """A bucket policy is not JSON, or S3 does not accept it."""

    default_message = "This policy contains invalid Json"


class MalformedTrailerError(S3Error):
    """A body ends with a trailer that was not announced."""

    default_message = "The request contained trailing data that was not well-formed."


class MalformedXML(S3Error):
    """The document of a request is not well-formed, or not valid for the operation."""

    default_message = "The XML you provided was not well-formed or did not validate against our published schema."


class MaxPostPreDataLengthExceededError(S3Error):
    """The fields of a form before the file are longer than S3 allows."""

    default_message = "Your POST request fields preceding the upload file were too large."


class MetadataTooLarge(S3Error):
    """The user-defined metadata has more than 2 KB."""

    default_message = "Your metadata headers exceed the maximum allowed metadata size"


class XAmzContentChecksumMismatch(S3Error):
    """The body does not match the checksum in its trailer."""

    default_message = "The provided 'x-amz-checksum' header does not match what was computed."


class XAmzContentSHA256Mismatch(S3Error):
    """The body does not match the digest in `x-amz-content-sha256`."""

    default_message = "The provided 'x-amz-content-sha256' header does not match what was computed."


class AccessDenied(S3Error):
    """A policy does not allow the request, or the bucket has another owner than the caller expects."""

    status = 403
    default_message = "Access Denied"


class NoSuchBucket(S3Error):
    """The bucket does not exist."""

    status = 404
    default_message = "The specified bucket does not exist"


class NoSuchKey(S3Error):
    """The bucket has no object with this key."""

    status = 404
    default_message = "The specified key does not exist."


class NoSuchUpload(S3Error):
    """The multipart upload does not exist; it may have been aborted or completed."""

    status = 404
    default_message = (
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or"
        " completed."
    )


class Unset(S3Error):
    """The bucket lacks the requested configuration; each configuration has its own code."""

    status = 404

    def __init__(self, code: str, message: str, **details: str | int) -> None:
        # One class for all of these codes: no code here catches one of them, they exist on the wire only.
        self.code = code  # type: ignore[misc]
        super().__init__(message, **details)


class BucketAlreadyOwnedByYou(S3Error):
    """The bucket exists and belongs to the caller."""

    status = 409
    default_message = "Your previous request to create the named bucket succeeded and you already own it."


class InvalidBucketState(S3Error):
    """The bucket is not in the state that the request needs."""

    status = 409
    default_message = "The request is not valid for the current state of the bucket."


class BucketNotEmpty(S3Error):
    """A bucket that contains objects cannot be deleted."""

    status = 409
    default_message = "The bucket you tried to delete is not empty"


class MissingContentLength(S3Error):
    """The body has no declared length."""

    status = 411
    default_message = "You must provide the Content-Length HTTP header."


class PreconditionFailed(S3Error):
    """A condition of the request (`If-Match`, `x-amz-if-match-size`…) does not hold."""

    status = 412
    default_message = "At least one of the pre-conditions you specified did not hold"


class InvalidRange(S3Error):
    """A range is empty or begins after the end of the object."""

    status = 416
    default_message = "The requested range is not satisfiable"


class InvalidPartNumber(S3Error):
    """A read asks for a part that the object does not have."""

    status = 416
    default_message = "The requested partnumber is not satisfiable"


class InternalError(S3Error):
    """The server failed; its log has the cause."""

    status = 500
    default_message = "We encountered an internal error. Please try again."


class NotImplementedByThisServer(S3Error):
    """The request uses a part of S3 that this server does not implement."""

    code = "NotImplemented"
    status = 501
    default_message = "A header you provided implies functionality that is not implemented."
