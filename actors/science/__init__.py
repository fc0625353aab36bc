"""The pure core: arrays and dataclasses in, arrays and dataclasses out.

Nothing in this package imports a broker, a database, settings or logging. The folders follow the
path of a recording: ``audio_io`` decodes it, ``levels`` measures it, ``tagging`` and ``detection``
turn it into noise events, ``summaries`` aggregates them, and ``plotting`` draws them.
``evaluation`` measures detection quality, and ``synth`` generates sounds.
"""
