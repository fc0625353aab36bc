"""Fault tests: a stream of recordings through real servers and processes that keep failing.

``python -m tests.chaos --seed 1``, or ``make chaos SEED=1..20``. One run:

1. :mod:`world` starts a RabbitMQ, a Postgres and a blob store of its own, an API and two workers.
2. A *quiet run* of the recordings of :mod:`stream` says what is to be heard in each.
3. A stream of the same recordings is posted while the :mod:`injector` injects :mod:`faults`, drawn
   from the seed.
4. The faults stop, and the system is given time to settle.
5. :mod:`verdict` looks at the tables, the queues and the blob store, through no code of the
   pipeline.

What a seed decides is which faults come, in which order and for how long; at which point of the
work they strike depends on the machine. A run that fails keeps its logs and says where.
"""
