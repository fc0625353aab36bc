"""Batches of recordings."""
