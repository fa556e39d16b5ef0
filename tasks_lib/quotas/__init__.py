"""The account's quotas: what a job needs of them, whether it can run at all, and a queue in front of them."""
