"""Health, metrics, usage, and periodic jobs."""
