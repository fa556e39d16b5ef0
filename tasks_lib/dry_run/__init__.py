"""The dry run: what a flow would do, without doing it."""
