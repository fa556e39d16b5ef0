"""Where a person looks at a job, its log, its data and a quota in AWS's console. Pure.

One module, because the console's addresses are nobody's contract: they differ by partition, and CloudWatch's escape
their own slashes twice. A local project has no console, so its links are empty.
"""

from __future__ import annotations

from urllib.parse import quote

from blocks import SageMakerProject
from tasks_lib.jobs.kind import JobKind
from tasks_lib.jobs.s3_layout import Location

_DOMAINS = {"cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com"}


def console_url(project: SageMakerProject, kind: JobKind, job: str) -> str:
    """Return where a job can be looked at in the AWS console; nothing for a local one."""
    return _page(project, "sagemaker/home", f"#/{kind.console_page}/{job}")


def log_url(project: SageMakerProject, kind: JobKind, job: str) -> str:
    """Return where all lines of a job are in CloudWatch; nothing for a local one."""
    group, streams = _twice(kind.log_group), _twice(f"{job}/")
    return _page(
        project,
        "cloudwatch/home",
        f"#logsV2:log-groups/log-group/{group}$3FlogStreamNameFilter$3D{streams}",
    )


def s3_url(project: SageMakerProject, uri: str) -> str:
    """Return where an object, or what stands under a prefix, can be looked at; nothing for a local one."""
    place = Location.parse(uri)
    kind = "buckets" if not place.key or place.key.endswith("/") else "object"
    return _page(project, f"s3/{kind}/{place.bucket}", f"&prefix={quote(place.key)}")


def quota_url(project: SageMakerProject, code: str) -> str:
    """Return where a higher quota can be asked for; nothing for a local project."""
    return _page(project, f"servicequotas/home/services/sagemaker/quotas/{code}", "")


def _page(project: SageMakerProject, page: str, rest: str) -> str:
    if project.is_local:
        return ""
    region = project.region_name
    domain = next((domain for start, domain in _DOMAINS.items() if region.startswith(start)), "console.aws.amazon.com")
    return f"https://{region}.{domain}/{page}?region={region}{rest}"


def _twice(text: str) -> str:
    """Escape as CloudWatch's console does: percent-encoded twice, with `$` for the first of the percent signs."""
    return quote(quote(text, safe=""), safe="").replace("%", "$")
