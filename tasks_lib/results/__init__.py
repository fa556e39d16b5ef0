"""What a task returns, and how results are explained and compared."""
