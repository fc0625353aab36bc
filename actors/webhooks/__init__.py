"""Webhooks: signed deliveries to addresses that callers gave."""
