"""When a recording began, according to its file: its metadata, or its name."""
