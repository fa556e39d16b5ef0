"""CloudWatch Logs over the log files of jobs: groups, streams and events."""
