"""The object store with the permissions of a job's role.

On AWS too, SageMaker assumes the job's role for the downloads before a job and the uploads during and after it. The
supervisor accesses the store without a request to S3, so this module evaluates the policies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from local_sagemaker.iam.roles import Access, NotAuthorized, RoleTable
from local_sagemaker.iam.sessions import Session
from local_sagemaker.kinds import KINDS
from local_sagemaker.s3.encryption import ENCRYPTION_HEADER, KEY_HEADER, encryption_of_new
from local_sagemaker.s3.errors import AccessDenied
from local_sagemaker.s3.objects import DEFAULT_CONTENT_TYPE
from local_sagemaker.s3.permissions import listing, reading, using_key, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from local_sagemaker.iam.policies import Permission
    from local_sagemaker.jobs import Job
    from local_sagemaker.s3.objects import StoredObject
    from local_sagemaker.s3.store import ObjectStore


def session_of_job(job: Job) -> Session:
    """Return SageMaker's session of a job's role; it starts when the job is created."""
    return Session(KINDS[job.kind].role_of(job.request), "SageMaker", job.role_id)


def store_of_job(job: Job, home: Path, store: ObjectStore) -> RoleStore:
    """Return the object store with the permissions of a job's role."""
    access = Access(session_of_job(job), RoleTable(home), job.arn.split(":")[3])
    kind = KINDS[job.kind]
    output = kind.definition_of(job.request).get(kind.output_config) or {}
    return RoleStore(store, access, output.get("KmsKeyId", ""))


class RoleStore:
    """An object store that checks the permissions of a role.

    Args:
        store: the object store.
        access: the permissions of the role.
        kms_key: the KMS key of the outputs; if empty, the bucket's default encryption applies.
    """

    def __init__(self, store: ObjectStore, access: Access, kms_key: str = "") -> None:
        self._store = store
        self._access = access
        self._kms_key = kms_key

    def list(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """Return an iterator over the objects whose keys start with `prefix`, in the order of UTF-8 bytes.

        Raises:
            AccessDenied: the role may not list them.
            NoSuchBucket: the bucket does not exist.
        """
        found = self._store.list(bucket, prefix)
        self._check(listing(bucket, prefix))
        return found

    def open(self, bucket: str, key: str) -> tuple[StoredObject, BinaryIO]:
        """Return an object and its open body.

        Raises:
            AccessDenied: the role may not read it.
            NoSuchBucket, NoSuchKey: the bucket or the object does not exist.
        """
        found, body = self._store.open(bucket, key)
        try:
            self._check(*reading(found, self._access.region))
        except AccessDenied:
            body.close()
            raise
        return found, body

    def new_upload(self) -> RoleUpload:
        """Start the upload of an object whose body is written in pieces."""
        return RoleUpload(self._store, self._headers, self._access.region, self._check)

    @property
    def _headers(self) -> dict[str, str]:
        return {ENCRYPTION_HEADER: "aws:kms", KEY_HEADER: self._kms_key} if self._kms_key else {}

    def _check(self, *needs: Permission) -> None:
        try:
            self._access.check(*needs)
        except NotAuthorized as error:
            raise AccessDenied(str(error)) from error


class RoleUpload:
    """The upload of one object; leaving its `with` block without a commit discards it.

    Args:
        store: the object store.
        headers: the encryption headers of the request; if empty, the bucket's default encryption applies.
        region: the region of the bucket.
        check: raises `AccessDenied` if the role lacks one of the given permissions.
    """

    def __init__(self, store: ObjectStore, headers: dict[str, str], region: str, check: Callable[..., None]) -> None:
        self._store = store
        self._upload = store.new_upload()
        self._headers = headers
        self._region = region
        self._check = check

    def write(self, data: bytes) -> None:
        """Append data to the body."""
        self._upload.write(data)

    def commit(self, bucket: str, key: str, *, content_type: str = DEFAULT_CONTENT_TYPE) -> None:
        """Store the written body as an object.

        Raises:
            AccessDenied: the role may not write it.
            NoSuchBucket: the bucket does not exist.
            KeyTooLongError, InvalidArgument: the key is not valid in S3.
        """
        encryption = encryption_of_new(self._store, bucket, self._headers, self._region)
        needed = using_key("kms:GenerateDataKey", encryption, (bucket, key), self._region)
        self._check(writing(bucket, key, self._headers), *needed)
        self._upload.commit(bucket, key, content_type=content_type, headers=encryption)

    def __enter__(self) -> RoleUpload:  # noqa: PYI034 -- Self came with Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._upload.abort()
