"""Fault tests: a stream of recordings through real servers and processes that keep failing.

``python -m tests.chaos --seed 1``, or ``make chaos SEED=1..20``. One run:

1. :mod:`world` starts a private RabbitMQ, Postgres and blob store, an API and two workers.
2. A *quiet run* of the recordings of :mod:`stream` records the expected answer of each.
3. A stream of the same recordings is posted while the :mod:`injector` injects :mod:`faults`, drawn
   from the seed.
4. The faults stop, and the system gets time to settle.
5. :mod:`verdict` checks the tables, the queues and the blob store, without using code of the
   pipeline.

The seed determines which faults occur, in which order and for how long. The point of the work at
which they strike depends on the machine. A failed run keeps its logs and prints where they are.
"""
