"""Periodic maintenance: cleanup, retention, health checks and vacuum."""
