"""Fault injection: rules for requests and jobs that fail as they would on AWS."""
