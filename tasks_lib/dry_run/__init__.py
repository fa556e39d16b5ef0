"""What a flow would do, without doing it."""
