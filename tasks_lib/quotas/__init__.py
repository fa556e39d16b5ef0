"""The account's quotas: what a job asks of them, whether it can ever run, and the queue in which it waits."""
