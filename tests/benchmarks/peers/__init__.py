"""Clamor beside programs that do the same work: `make bench-peers`.

The peers are what a team would otherwise write, and share the science, so that only the programs
around it differ:

- `chunked`: the obvious Celery program. A task decodes a recording, a task a chunk scores it, and
  the one that finds all chunks scored sends the last task;
- `whole`: one Celery task a recording, and one transaction;
- `alone`: the science in a loop, without queue, database or files: what no program can exceed.
"""
