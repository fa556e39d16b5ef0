"""CloudWatch Logs over the files that jobs write: groups, streams, events."""
