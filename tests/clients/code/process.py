"""A processing script."""

print("processed")
