"""The command line: one file per command here, and in ``actions/`` what the commands do.

A command's file has ``add_parser`` and a function for each command, which imports from ``actions``.
Its top imports nothing heavy, so that ``clamor --help`` needs no library.
"""
