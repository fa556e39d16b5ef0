"""Finds orphans, which are live jobs that no live run needs, and stops them."""
