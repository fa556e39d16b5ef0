"""Links to the AWS console: a job, its log, its data and a quota. Pure.

The console's addresses are undocumented and may change, so they are built in this one module. They differ by partition.
A local project has no console: its links are empty strings.
"""

from __future__ import annotations

from urllib.parse import quote

from blocks import SageMakerProject
from tasks_lib.jobs.kind import JobKind
from tasks_lib.jobs.s3_layout import Location

_DOMAINS = {"cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com"}


def console_url(project: SageMakerProject, kind: JobKind, job: str) -> str:
    """Return the console URL of a job; empty for a local project."""
    return _page(project, "sagemaker/home", f"#/{kind.console_page}/{job}")


def log_url(project: SageMakerProject, kind: JobKind, job: str) -> str:
    """Return the CloudWatch URL of all of a job's log streams; empty for a local project."""
    group, streams = _twice(kind.log_group), _twice(f"{job}/")
    return _page(
        project,
        "cloudwatch/home",
        f"#logsV2:log-groups/log-group/{group}$3FlogStreamNameFilter$3D{streams}",
    )


def s3_url(project: SageMakerProject, uri: str) -> str:
    """Return the console URL of an object or a prefix; empty for a local project."""
    place = Location.parse(uri)
    kind = "buckets" if not place.key or place.key.endswith("/") else "object"
    return _page(project, f"s3/{kind}/{place.bucket}", f"&prefix={quote(place.key)}")


def quota_url(project: SageMakerProject, code: str) -> str:
    """Return the console URL where a higher quota can be requested; empty for a local project."""
    return _page(project, f"servicequotas/home/services/sagemaker/quotas/{code}", "")


def _page(project: SageMakerProject, page: str, rest: str) -> str:
    if project.is_local:
        return ""
    region = project.region_name
    domain = next((domain for start, domain in _DOMAINS.items() if region.startswith(start)), "console.aws.amazon.com")
    return f"https://{region}.{domain}/{page}?region={region}{rest}"


def _twice(text: str) -> str:
    """Escape as CloudWatch's console does: percent-encode twice, then write each `%` as `$`."""
    return quote(quote(text, safe=""), safe="").replace("%", "$")
