"""Totals of events and levels: by session, and by local day."""
