"""The HTTP process and the command line: they send, and never work themselves."""

# Imported for what it sets: the number of threads of numeric libraries, before one is loaded.
import actors  # noqa: F401
