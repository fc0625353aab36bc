"""The pure core: arrays and dataclasses in, arrays and dataclasses out.

Nothing in this package knows of a broker, a database, settings or logging. The modules follow
the way of a recording: ``decode`` and ``prepare``, ``chunks``, ``features``, ``classifier``,
``events``. Beside them ``meter`` measures (by ``weighting``, ``bands`` and ``peak``) what
``levels`` and ``totals`` hold, and ``calibration`` brings it to dB SPL. ``synth`` makes sounds and
``plots`` draws.
"""
