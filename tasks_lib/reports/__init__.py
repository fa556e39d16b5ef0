"""The reports of a step in Prefect's UI: artifacts, plots and pages, without secrets."""
