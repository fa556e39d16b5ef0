"""The CloudWatch Logs API as one `JsonService`."""

from __future__ import annotations

from pathlib import Path

from local_sagemaker.logs.operations import LogOperations
from local_sagemaker.logs.streams import LogStore
from local_sagemaker.wire.json_service import JsonService


def logs_service(directory: Path) -> JsonService:
    """Build the service for a home's directory of logs."""
    operations = LogOperations(LogStore(directory))
    handlers = {
        "DescribeLogGroups": operations.describe_groups,
        "DescribeLogStreams": operations.describe_streams,
        "GetLogEvents": operations.get_events,
        "FilterLogEvents": operations.filter_events,
    }
    return JsonService("logs", handlers, invalid="InvalidParameterException")
