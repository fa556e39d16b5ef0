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
    ├── 404  NoSuchBucket, NoSuchKey, NoSuchUpload, and what a bucket may lack (`Unset`)
    ├── 409  BucketAlreadyOwnedByYou, BucketNotEmpty, InvalidBucketState
    ├── 411  MissingContentLength
    ├── 412  PreconditionFailed
    ├── 416  InvalidPartNumber, InvalidRange
    ├── 500  InternalError
    └── 501  NotImplementedByThisServer (code `NotImplemented`)

The store raises the same classes as the HTTP face, because a translation between two trees would be a second list to
keep in step. Codes, status and wording follow https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
Inside `local_sagemaker` anybody may import it; it stands on nothing.
"""

from __future__ import annotations

from typing import ClassVar


class S3Error(Exception):
    """S3 refuses a request.

    Args:
        message: what happened; by default AWS's sentence for the code.
        details: further elements of the error document, by their names (`Key="a/b"`, `BucketName="data"`).
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
    """A conditional read met what the reader has already."""

    status = 304
    default_message = "Not Modified"


class AccessControlListNotSupported(S3Error):
    """A bucket whose owner owns all of it takes no access control lists."""

    default_message = "The bucket does not allow ACLs"


class BadDigest(S3Error):
    """The body is not what its `Content-MD5` or its checksum says."""

    default_message = "The Content-MD5 or checksum value that you specified did not match what the server received."


class BadRequest(S3Error):
    """An object or a bucket gets too many tags."""

    default_message = "Bad Request"


class EntityTooLarge(S3Error):
    """A body is longer than S3 takes in one request (5 GiB)."""

    default_message = "Your proposed upload exceeds the maximum allowed object size."


class EntityTooSmall(S3Error):
    """A part that is not the last has less than 5 MiB."""

    default_message = "Your proposed upload is smaller than the minimum allowed object size."


class IllegalLocationConstraintException(S3Error):
    """A bucket cannot be made in that region from here."""

    default_message = (
        "The location constraint is incompatible for the region specific endpoint this request was sent to."
    )


class IncompleteBody(S3Error):
    """The body ended before the length that was announced, or its chunks are malformed."""

    default_message = "You did not provide the number of bytes specified by the Content-Length HTTP header."


class InvalidArgument(S3Error):
    """A parameter or header has a value that S3 does not take."""

    default_message = "Invalid Argument"


class InvalidBucketAclWithObjectOwnership(S3Error):
    """A bucket is made with a public list and an ownership that takes no lists."""

    default_message = "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"


class InvalidBucketName(S3Error):
    """A bucket's name breaks the rules of naming."""

    default_message = "The specified bucket is not valid."


class InvalidDigest(S3Error):
    """`Content-MD5` is not a digest at all."""

    default_message = "The Content-MD5 you specified is not valid."


class InvalidEncryptionAlgorithmError(S3Error):
    """The encryption asked for is none of S3's."""

    default_message = "The Encryption request you specified is not valid. Supported value: AES256."


class InvalidLocationConstraint(S3Error):
    """A bucket's region is not one, or is the one that is never named."""

    default_message = "The specified location-constraint is not valid"


class InvalidPart(S3Error):
    """A part named in a completion is not there, or is another."""

    default_message = (
        "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified"
        " entity tag may not match the part's entity tag."
    )


class InvalidPartOrder(S3Error):
    """The parts of a completion are not in ascending order."""

    default_message = "The list of parts was not in ascending order. Parts must be ordered by part number."


class InvalidPolicyDocument(S3Error):
    """The policy of a form is not one."""

    default_message = "The content of the form does not meet the conditions specified in the policy document."


class InvalidRedirectLocation(S3Error):
    """An object is to redirect to what is neither an address nor a key."""

    default_message = (
        "The website redirect location must have a prefix of 'http://' or 'https://' or '/' for redirects."
    )


class InvalidRequest(S3Error):
    """Headers or parameters that contradict one another."""

    default_message = "Invalid Request"


class InvalidStorageClass(S3Error):
    """S3 has no such storage class."""

    default_message = "The storage class you specified is not valid"


class InvalidTag(S3Error):
    """A tag is too long, given twice, or one too many."""

    default_message = "The tag provided was not a valid tag."


class InvalidURI(S3Error):
    """The path is not percent-encoded UTF-8."""

    default_message = "Couldn't parse the specified URI."


class KeyTooLongError(S3Error):
    """A key has more than 1,024 bytes of UTF-8."""

    default_message = "Your key is too long."


class MalformedPOSTRequest(S3Error):
    """The body of a form is not well-formed `multipart/form-data`."""

    default_message = "The body of your POST request is not well-formed multipart/form-data."


class MalformedPolicy(S3Error):
    """A bucket's policy is not JSON, or says what S3 does not take."""

    default_message = "This policy contains invalid Json"


class MalformedTrailerError(S3Error):
    """A body ends with a trailer that was not announced."""

    default_message = "The request contained trailing data that was not well-formed."


class MalformedXML(S3Error):
    """A request's document is not well-formed, or not the one of this operation."""

    default_message = "The XML you provided was not well-formed or did not validate against our published schema."


class MaxPostPreDataLengthExceededError(S3Error):
    """A form's fields before the file are longer than S3 takes."""

    default_message = "Your POST request fields preceding the upload file were too large."


class MetadataTooLarge(S3Error):
    """The user's metadata has more than 2 KB."""

    default_message = "Your metadata headers exceed the maximum allowed metadata size"


class XAmzContentChecksumMismatch(S3Error):
    """The body does not have the checksum that its trailer says."""

    default_message = "The provided 'x-amz-checksum' header does not match what was computed."


class XAmzContentSHA256Mismatch(S3Error):
    """The body does not have the digest of `x-amz-content-sha256`."""

    default_message = "The provided 'x-amz-content-sha256' header does not match what was computed."


class AccessDenied(S3Error):
    """The caller's policies do not allow it, or the bucket belongs to another account than the caller expects."""

    status = 403
    default_message = "Access Denied"


class NoSuchBucket(S3Error):
    """There is no bucket of this name."""

    status = 404
    default_message = "The specified bucket does not exist"


class NoSuchKey(S3Error):
    """There is no object under this key."""

    status = 404
    default_message = "The specified key does not exist."


class NoSuchUpload(S3Error):
    """There is no such multipart upload; it was aborted or completed."""

    status = 404
    default_message = (
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or"
        " completed."
    )


class Unset(S3Error):
    """A bucket lacks the configuration asked for; each configuration has a code of its own."""

    status = 404

    def __init__(self, code: str, message: str, **details: str | int) -> None:
        # One class for seven codes that nobody catches: they exist on the wire only.
        self.code = code  # type: ignore[misc]
        super().__init__(message, **details)


class BucketAlreadyOwnedByYou(S3Error):
    """The bucket exists, and is the caller's."""

    status = 409
    default_message = "Your previous request to create the named bucket succeeded and you already own it."


class InvalidBucketState(S3Error):
    """The bucket is not in the state that the request needs."""

    status = 409
    default_message = "The request is not valid for the current state of the bucket."


class BucketNotEmpty(S3Error):
    """A bucket with objects in it cannot be deleted."""

    status = 409
    default_message = "The bucket you tried to delete is not empty"


class MissingContentLength(S3Error):
    """A body came without a length."""

    status = 411
    default_message = "You must provide the Content-Length HTTP header."


class PreconditionFailed(S3Error):
    """`If-Match`, `If-None-Match` or `If-Unmodified-Since` does not hold."""

    status = 412
    default_message = "At least one of the pre-conditions you specified did not hold"


class InvalidRange(S3Error):
    """A range begins behind the end of the object."""

    status = 416
    default_message = "The requested range is not satisfiable"


class InvalidPartNumber(S3Error):
    """An object has fewer parts than the number that a read asks for."""

    status = 416
    default_message = "The requested partnumber is not satisfiable"


class InternalError(S3Error):
    """The store broke; the log of the server has the cause."""

    status = 500
    default_message = "We encountered an internal error. Please try again."


class NotImplementedByThisServer(S3Error):
    """A part of S3 that is not built here."""

    code = "NotImplemented"
    status = 501
    default_message = "A header you provided implies functionality that is not implemented."
