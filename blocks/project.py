"""The Prefect block `SageMakerProject`: a folder in a bucket, its AWS account, and the defaults of its tasks.

The project is a block, so that one flow runs in dev, on stage or on a laptop when it names another block. It holds
configuration and makes AWS clients; it does not depend on tasks.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast, overload

from botocore.config import Config
from botocore.exceptions import NoCredentialsError
from prefect.blocks.core import Block
from prefect_aws import AwsCredentials
from pydantic import (
    AfterValidator,
    Field,
    GetJsonSchemaHandler,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from typing_extensions import Self

from blocks import backend
from blocks.errors import BlockInvalid, BlockNotFound
from blocks.form import plain_inputs

if TYPE_CHECKING:
    from types_boto3_iam import IAMClient
    from types_boto3_logs import CloudWatchLogsClient
    from types_boto3_s3 import S3Client
    from types_boto3_sagemaker import SageMakerClient
    from types_boto3_service_quotas import ServiceQuotasClient
    from types_boto3_sqs import SQSClient
    from types_boto3_sts import STSClient

_ARN = r"arn:aws[a-z\-]*"
_TAG_KEY, _TAG_VALUE = 128, 256
_CONNECTIONS = 256
"""A flow may wait for hundreds of jobs in as many threads; connections beyond the pool are made and thrown away."""
_AWS_ATTEMPTS = 5
_LOCAL_ATTEMPTS = 2
"""Few, because the caller starts a local server again that does not answer, instead of waiting for it."""
_TIMEOUTS = {"logs": Config(connect_timeout=5, read_timeout=15)}  # in a VPC without its endpoint it never answers

BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]$")]
ProjectName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._\-]{0,62}$")]
RoleName = Annotated[
    str, StringConstraints(pattern=rf"^({_ARN}:iam::\d{{12}}:role/)?[A-Za-z0-9_+=,.@\-/]+$", max_length=600)
]
KmsKey = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9:/_\-]+$", max_length=2048)]
PolicyArn = Annotated[str, StringConstraints(pattern=rf"^{_ARN}:iam::(\d{{12}}|aws):policy/.+$")]
AccountId = Annotated[str, StringConstraints(pattern=r"^\d{12}$")]
SubnetId = Annotated[str, StringConstraints(pattern=r"^subnet-[0-9a-zA-Z]+$")]
SecurityGroupId = Annotated[str, StringConstraints(pattern=r"^sg-[0-9a-zA-Z]+$")]
InstanceType = Annotated[str, StringConstraints(pattern=r"^ml\.[a-z0-9\-]+\.[a-z0-9\-]+$")]
EventsQueueUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+/(\d{12}/)?[A-Za-z0-9_\-]{1,80}$")]


# The groups of the form. Prefect's form has no headings and keeps the order of the fields (`position`, which Prefect
# sets). Nested models for the groups would not allow the flat `SageMakerProject(subnets=…)`. So readers see a group by
# the order and the titles of its fields, and programs by `group`.
_PLACE: JsonDict = {"group": "Place"}
_ACCESS: JsonDict = {"group": "Access"}
_JOBS: JsonDict = {"group": "Jobs"}
_COST: JsonDict = {"group": "Cost"}
_NETWORK: JsonDict = {"group": "Network"}
_ENCRYPTION: JsonDict = {"group": "Encryption"}
_LOCAL: JsonDict = {"group": "This machine"}


def _clean_prefix(prefix: str) -> str:
    parts = [part for part in prefix.split("/") if part]
    if ".." in parts or "." in parts:
        raise ValueError("a prefix is a plain path inside the bucket, without '.' and '..'")
    return "/".join(parts)


class _Clients:
    """The AWS clients of a project in this process. A copy, in this or in another process, starts without clients."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.made: dict[str, Any] = {}
        self.backend: backend.LocalServer | None = None

    def __reduce__(self) -> tuple[type[_Clients], tuple[()]]:
        return _Clients, ()


_IN_ORIGIN = {"project", "bucket", "region", "prefix", "expected_bucket_owner", "output_kms_key"}
"""The fields of a project on AWS that are needed to read its results again."""


class SageMakerProject(Block):
    """A project: where its data lies in S3, in which account its jobs run, and what they run on.

    Args:
        bucket: The S3 bucket of the project; it must exist and belong to you.
        project: The project's name: the folder of its tasks.

    Example:
        Load a stored project and run a step of it:
        ```python
        from blocks import SageMakerProject
        from tasks_lib import sagemaker_tasks

        project = SageMakerProject.load("BLOCK_NAME")
        sm = sagemaker_tasks(project)
        ```
    """

    _block_type_name: ClassVar[str] = "SageMaker Project"
    _block_type_slug: ClassVar[str] = "sagemaker-project"
    _documentation_url: ClassVar[Any] = "https://docs.aws.amazon.com/sagemaker/latest/dg/whatis.html"

    project: ProjectName = Field(
        title="Project",
        description="Name of the project: the folder of its tasks, and part of what makes its jobs its own. "
        "Letters, digits, '.', '_' and '-'.",
        json_schema_extra=_PLACE,
    )
    bucket: BucketName = Field(
        title="Bucket",
        description="S3 bucket that holds the project's data; it must exist and belong to you. "
        "Its name alone, without s3://: 3 to 63 of a-z, 0-9, '.' and '-'.",
        json_schema_extra=_PLACE,
    )
    prefix: Annotated[str, AfterValidator(_clean_prefix)] = Field(
        default="",
        title="Prefix",
        description="Path inside the bucket, in front of the project's name; by default none.",
        json_schema_extra=_PLACE,
    )
    region: str | None = Field(
        default=None,
        title="Region",
        description="AWS region of the jobs, such as eu-west-1; by default that of the credentials.",
        pattern=r"^[a-z]{2,4}(-[a-z]+)+-\d$",
        json_schema_extra=_PLACE,
    )
    credentials: AwsCredentials = Field(
        default_factory=AwsCredentials,
        title="Access: AWS credentials",
        description="How to reach AWS: keys, profile, endpoint, and a role to assume with its external id; "
        "by default what boto3 finds.",
        json_schema_extra=_ACCESS,
    )
    role: RoleName | None = Field(
        default=None,
        title="Access: execution role",
        description="IAM role that the jobs assume: its ARN, such as arn:aws:iam::123456789012:role/jobs, or its name; "
        "by default a least-privilege role is created.",
        json_schema_extra=_ACCESS,
    )
    permissions_boundary: PolicyArn | None = Field(
        default=None,
        title="Access: permissions boundary",
        description="ARN of the policy that bounds the role which is made where none is given; by default none.",
        json_schema_extra=_ACCESS,
    )
    expected_bucket_owner: AccountId | None = Field(
        default=None,
        title="Access: bucket owner",
        description="Account that must own the bucket, 12 digits: S3 then refuses a bucket of another account; "
        "by default not checked.",
        json_schema_extra=_ACCESS,
    )
    image: str | None = Field(
        default=None,
        title="Jobs: image",
        description="Container image of tasks that name none, as registry/name:tag; by default tasks name theirs.",
        json_schema_extra=_JOBS,
    )
    instance_type: InstanceType = Field(
        default="ml.m5.large",
        title="Jobs: instance type",
        description="Instance type of tasks that name none, such as ml.m5.large.",
        json_schema_extra=_JOBS,
    )
    instance_count: int = Field(
        default=1,
        ge=1,
        le=100,
        title="Jobs: instance count",
        description="Number of hosts of tasks that name none, 1 to 100.",
        json_schema_extra=_JOBS,
    )
    volume_size_gb: int = Field(
        default=30,
        ge=1,
        le=16384,
        title="Jobs: volume size",
        description="Storage of each host in GB, for its input and output.",
        json_schema_extra=_JOBS,
    )
    max_runtime_minutes: int = Field(
        default=1440,
        ge=1,
        le=40320,
        title="Jobs: longest run",
        description="SageMaker stops a job after so many minutes.",
        json_schema_extra=_JOBS,
    )
    spot: bool = Field(
        default=True,
        title="Jobs: spot instances",
        description="Train on spot instances: cheaper, and resumed from the state directory when interrupted.",
        json_schema_extra=_JOBS,
    )
    use_concurrency_limits: bool = Field(
        default=False,
        title="Jobs: concurrency limits",
        description="Wait for slots of the Prefect concurrency limits that `ssm quotas --apply` makes from the "
        "account's quotas; by default AWS alone says when a quota is used up.",
        json_schema_extra=_JOBS,
    )
    events_queue_url: EventsQueueUrl | None = Field(
        default=None,
        title="Jobs: queue of events",
        description="URL of an SQS queue to which an EventBridge rule sends the state changes of SageMaker's jobs, so "
        "that their ends are heard at once; by default SageMaker is asked.",
        json_schema_extra=_JOBS,
    )
    tags: dict[str, str] = Field(
        default_factory=dict,
        max_length=30,
        title="Jobs: tags",
        description='Tags on every job, for bills and policies, as JSON: {"team": "vision"}.',
        json_schema_extra=_JOBS,
    )
    hourly_prices: dict[InstanceType, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default_factory=dict,
        title="Cost: hourly prices",
        description="Price of one instance for one hour in your own currency, by instance type, as JSON: "
        '{"ml.m5.large": 0.12}. Costs are estimated from them; of a type without a price they are unknown.',
        json_schema_extra=_COST,
    )
    subnets: list[SubnetId] = Field(
        default_factory=list,
        max_length=16,
        title="Network: subnets",
        description="Subnets of your VPC in which the jobs run, such as subnet-0a1b2c3d; by default no VPC of yours.",
        json_schema_extra=_NETWORK,
    )
    security_group_ids: list[SecurityGroupId] = Field(
        default_factory=list,
        max_length=5,
        title="Network: security groups",
        description="Security groups of the jobs in your VPC, such as sg-0a1b2c3d; needed with subnets.",
        json_schema_extra=_NETWORK,
    )
    network_isolation: bool = Field(
        default=False,
        title="Network: isolation",
        description="Cut the containers off from every network.",
        json_schema_extra=_NETWORK,
    )
    volume_kms_key: KmsKey | None = Field(
        default=None,
        title="Encryption: KMS key of volumes",
        description="KMS key (id, ARN or alias) for the hosts' storage; by default none of yours.",
        json_schema_extra=_ENCRYPTION,
    )
    output_kms_key: KmsKey | None = Field(
        default=None,
        title="Encryption: KMS key of outputs",
        description="KMS key (id, ARN or alias) for what the jobs write to S3; by default the bucket's own encryption.",
        json_schema_extra=_ENCRYPTION,
    )
    encrypt_between_containers: bool = Field(
        default=False,
        title="Encryption: between containers",
        description="Encrypt the traffic between the hosts of one job.",
        json_schema_extra=_ENCRYPTION,
    )
    local_home: Path | None = Field(
        default=None,
        title="This machine: local SageMaker",
        description="Data directory of a SageMaker on this machine that runs the jobs instead of AWS; by default AWS.",
        json_schema_extra=_LOCAL,
    )

    _clients: _Clients = PrivateAttr(default_factory=_Clients)
    _saved_as: str | None = PrivateAttr(default=None)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema from which Prefect's UI makes the block's form."""
        form = super().__get_pydantic_json_schema__(schema, handler)
        plain_inputs(handler.resolve_ref_schema(form))
        return form

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:
        """Refuse unknown fields such as `network_isolaton=True`, which Prefect's blocks would keep and ignore."""
        given = {name for name in values if not name.startswith("_")} if isinstance(values, dict) else set()
        unknown = sorted(given - cls.model_fields.keys() - {"block_type_slug"})
        if unknown:
            raise ValueError(f"there is no field {', '.join(unknown)}")
        return values

    @field_validator("tags")
    @classmethod
    def _check_tags(cls, tags: dict[str, str]) -> dict[str, str]:
        """Refuse tags that AWS would refuse on every job (API reference of Tag)."""
        for key, value in tags.items():
            if not 1 <= len(key) <= _TAG_KEY or len(value) > _TAG_VALUE or key.lower().startswith("aws:"):
                raise ValueError(
                    f"tag {key!r}: a key has 1 to {_TAG_KEY} characters and no 'aws:' in front, "
                    f"a value at most {_TAG_VALUE} characters"
                )
        return tags

    @model_validator(mode="after")
    def _check_vpc(self) -> Self:
        if bool(self.subnets) != bool(self.security_group_ids):
            raise ValueError("a VPC needs both subnets and security groups (VpcConfig)")
        return self

    @classmethod
    def local(cls, name: str = "local", *, home: Path | str | None = None, **fields: Any) -> Self:
        """Return a project on this machine, without an AWS account: a local SageMaker runs its jobs.

        Args:
            name: The project's name; default `local`.
            home: The data directory; default `LOCAL_SAGEMAKER_HOME`, else `~/.local/share/local-sagemaker`.
            **fields: Any other fields of the block.
        """
        given: dict[str, Any] = {
            "bucket": backend.BUCKET,
            "region": backend.REGION,
            "role": backend.ROLE,
            "image": backend.IMAGE,
            "local_home": Path(home or backend.default_home()).absolute(),
        }
        return cls(project=name, **(given | fields))

    @classmethod
    def named(cls, project: str | SageMakerProject) -> SageMakerProject:
        """Return the project with a name: `local` is the project on this machine, any other name is a saved block.

        Raises:
            BlockNotFound: No block is saved under that name.
            BlockInvalid: The saved block is not a valid project, for example because another version saved it.
        """
        if isinstance(project, SageMakerProject):
            return project
        if project == "local":
            return cls.local()
        try:
            # `_sync`: inside an async flow `load` would return a coroutine.
            found = cast("SageMakerProject", cls.load(project, _sync=True))  # type: ignore[call-arg]
        except RuntimeError as error:  # `Block.load` raises it from pydantic's error
            if not isinstance(error.__cause__, ValidationError):
                raise
            raise BlockInvalid(
                f"The SageMakerProject block {project!r} cannot be used: {_complaints(error.__cause__)}.",
                fix="correct these fields in Prefect's UI (Blocks), or save the block again.",
            ) from error
        except ValueError as error:  # `Block.load` raises it for an unknown block document
            raise BlockNotFound(
                f"No SageMakerProject block is saved as {project!r}.",
                fix=f"save one with SageMakerProject(project=…, bucket=…).save({project!r}), "
                "or name 'local' for a project on this machine.",
            ) from error
        return found.saved_as(project)

    def saved_as(self, name: str) -> Self:
        """Set the name under which the block of this project is saved; return the project."""
        self._saved_as = name
        return self

    @property
    def origin(self) -> dict[str, Any]:
        """The data from which another process makes this project again: its block's name or fields, no secrets."""
        if self._saved_as:
            return {"block": self._saved_as, "project": self.project}
        told = self.model_dump(mode="json", include=_IN_ORIGIN)
        if self.is_local:
            told["local_home"] = str(self.local_home)
        return {name: value for name, value in told.items() if value}

    @classmethod
    def from_origin(cls, origin: Mapping[str, Any]) -> SageMakerProject:
        """Return the project of an `origin`.

        A project on AWS without a saved block gets the credentials of this process.

        Raises:
            BlockNotFound: Its block no longer exists.
            BlockInvalid: Its block is no longer a valid project.
        """
        fields = {name: value for name, value in origin.items() if name not in ("block", "local_home")}
        if "block" in origin:
            return cls.named(origin["block"]).model_copy(update=fields)
        if "local_home" in origin:
            name = fields.pop("project")
            return cls.local(name, home=origin["local_home"], **fields)
        return cls(**fields)

    @property
    def is_local(self) -> bool:
        """Whether the jobs run on this machine."""
        return self.local_home is not None

    @property
    def key_prefix(self) -> str:
        """The project's folder in its bucket, ending in `/`."""
        return f"{self.prefix}/{self.project}/" if self.prefix else f"{self.project}/"

    @property
    def uri(self) -> str:
        """The project's folder as an S3 URI, ending in `/`."""
        return f"s3://{self.bucket}/{self.key_prefix}"

    @overload
    def client(self, service: Literal["iam"]) -> IAMClient: ...
    @overload
    def client(self, service: Literal["logs"]) -> CloudWatchLogsClient: ...
    @overload
    def client(self, service: Literal["s3"]) -> S3Client: ...
    @overload
    def client(self, service: Literal["sagemaker"]) -> SageMakerClient: ...
    @overload
    def client(self, service: Literal["service-quotas"]) -> ServiceQuotasClient: ...
    @overload
    def client(self, service: Literal["sqs"]) -> SQSClient: ...
    @overload
    def client(self, service: Literal["sts"]) -> STSClient: ...
    @overload
    def client(self, service: str) -> Any: ...
    def client(self, service: str) -> Any:
        """Return the boto3 client of an AWS service; it is made once.

        Clients are thread-safe, but making one is not, hence the lock. botocore retries only a few times, in standard
        mode: `tasks_lib` decides what to do about a throttled or lost call, because the answer depends on the call.
        """
        with self._clients.lock:
            made = self._clients.made
            if service not in made:
                made[service] = self._local_client(service) if self.is_local else self._aws_client(service)
            return made[service]

    @property
    def storage_options(self) -> dict[str, Any]:
        """Options with which s3fs, fsspec and pandas reach the project's bucket.

        They hold credentials that are valid now, and expire as those do: read the property again for each use.
        """
        if self.is_local:
            with self._clients.lock:
                found = self._running_server()
            return backend.storage_options(found, self.region or backend.REGION)
        region = self.region or self.credentials.region_name
        session = self.credentials.model_copy(update={"region_name": region}).get_boto3_session()
        given = session.get_credentials()
        if given is None:
            raise NoCredentialsError
        keys = given.get_frozen_credentials()
        more = {"endpoint_url": endpoint} if (endpoint := self.credentials.aws_client_parameters.endpoint_url) else {}
        return {
            "key": keys.access_key,
            "secret": keys.secret_key,
            "token": keys.token,
            "client_kwargs": {"region_name": region},
            **more,
        }

    @property
    def region_name(self) -> str:
        """The region in which the jobs run."""
        return str(self.client("s3").meta.region_name)

    def forget_clients(self) -> None:
        """Drop all clients, so that new ones are made with fresh credentials and a running local SageMaker."""
        with self._clients.lock:
            self._clients.made.clear()
            self._clients.backend = None

    def drop_dead_clients(self) -> None:
        """Drop all clients if the local SageMaker that they use has ended; the next client starts it again.

        A notebook can so outlive its server. The check costs one connection on loopback; on AWS there is none.
        """
        with self._clients.lock:
            if self._clients.backend and not self._clients.backend.answers():
                self.forget_clients()

    def _aws_client(self, service: str) -> Any:
        parameters = self.credentials.aws_client_parameters.get_params_override()
        config = parameters.pop("config", None) or Config()
        region = self.region or self.credentials.region_name
        # The credentials get the region too, because a role is assumed at the STS of a region.
        session = self.credentials.model_copy(update={"region_name": region}).get_boto3_session()
        ours = _config(_AWS_ATTEMPTS).merge(_TIMEOUTS.get(service, Config())).merge(config)
        client: Any = session.client  # the stubs know services by their literal names
        return client(service, region_name=region, config=ours, **parameters)

    def _local_client(self, service: str) -> Any:
        found = self._running_server()
        session = backend.isolated_session(self.region or backend.REGION, found.access_key, found.secret_key)
        direct = _config(_LOCAL_ATTEMPTS).merge(Config(proxies={}))  # else the requests go to the HTTP_PROXY
        client: Any = cast("Any", session).client(service, endpoint_url=found.endpoint, config=direct)
        backend.refuse_foreign_hosts(client)
        if service == "s3":
            # A local project needs no bucket made by hand. In us-east-1 it is not an error to make an own bucket again.
            client.create_bucket(Bucket=self.bucket)
        return client

    def _running_server(self) -> backend.LocalServer:
        if self._clients.backend is None:
            assert self.local_home is not None
            self._clients.backend = backend.ensure_server(self.local_home, self.region or backend.REGION)
        return self._clients.backend


def _complaints(error: ValidationError) -> str:
    """Return the invalid fields, their errors and their descriptions, because a pattern alone does not help."""
    found = [(".".join(map(str, each["loc"])), each["loc"], each["msg"]) for each in error.errors()]
    return "; ".join(f"{place}: {text}{_meaning(loc)}" if place else text for place, loc, text in found)


def _meaning(loc: tuple[int | str, ...]) -> str:
    field = SageMakerProject.model_fields.get(str(loc[0]))
    return f" ({field.description.rstrip('.')})" if field and field.description else ""


def _config(attempts: int) -> Config:
    return Config(
        max_pool_connections=_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": attempts},
        user_agent_extra="prefect-sagemaker",
    )
