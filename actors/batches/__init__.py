"""Batches: their recordings become sessions."""
