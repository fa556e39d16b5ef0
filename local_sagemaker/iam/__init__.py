"""The permissions of roles: policies, evaluated as in the IAM User Guide, and the roles of a home.

`patterns`, `conditions` and `policies` are pure; `roles` reads and writes the file of roles. These modules use the
standard library only, because the supervisors of jobs evaluate policies, too.
"""
