"""The values that describe a job, and pure functions of them."""
