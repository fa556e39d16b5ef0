"""Everything that relies on how Prefect runs flows and tasks, its private parts included."""
