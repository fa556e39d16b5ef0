"""Live jobs in which no live run has an interest: which they are, and the reaper that stops them."""
