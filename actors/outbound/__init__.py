"""Requests to URLs from callers: checked, pinned to their addresses, and bounded in time."""
