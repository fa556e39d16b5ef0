"""Faults on demand: what goes wrong, with which requests and jobs, and how AWS would say it."""
