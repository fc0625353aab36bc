"""The store: what Clamor remembers, and nothing about how it works or who asks."""
