"""What a role may do: policies read and evaluated as the IAM User Guide has it, and the roles of a home.

`patterns`, `conditions` and `policies` are pure. `roles` has the one file. All of it stands on the standard library,
since the supervisors of jobs evaluate, too.
"""
