"""The pure core: arrays and dataclasses in, arrays and dataclasses out.

Nothing in this package imports a broker, a database, settings or logging. Its folders follow the
way of a recording: ``audio_io`` decodes it, ``levels`` measures it, ``tagging`` and ``detection``
make noise events of it, ``summaries`` adds them up, and ``plotting`` draws them. ``evaluation``
measures how good detections are, and ``synth`` makes sounds.
"""
