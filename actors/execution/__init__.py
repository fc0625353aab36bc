"""How work is claimed, run, and committed behind a fence."""
