"""Recordings: from a file to samples, and back."""
