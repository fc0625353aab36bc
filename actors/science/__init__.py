"""The pure core: arrays and dataclasses in, arrays and dataclasses out.

Nothing in this package knows of a broker, a database, settings or logging. The modules follow
the way of a recording: ``decode`` and ``prepare``, ``chunks``, ``features``, ``classifier``,
``events``; ``levels`` measures beside them, ``synth`` makes sounds and ``plots`` draws.
"""
