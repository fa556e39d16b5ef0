"""The flows of this checkout: the quickstart, the reaper, and the commands around them."""
