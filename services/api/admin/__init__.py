"""Health, metrics, usage, and the scheduled jobs."""
