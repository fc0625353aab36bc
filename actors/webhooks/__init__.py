"""Webhooks: signed deliveries to URLs from callers."""
