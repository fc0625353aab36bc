"""The command line: a file a command here, and in ``actions/`` what the commands do.

A command's file has ``add_parser`` and ``run``. Its top imports only the standard library and
``options``, so that ``clamor --help`` loads nothing heavy; ``run`` imports from ``actions``.
"""
