"""Sessions: a recording, its progress, and its events."""
