"""The HTTP process and the command line: they send, and never work themselves."""
