"""Requests to addresses that a caller gave: guarded, pinned, and with an end."""
