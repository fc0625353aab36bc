"""``/docs`` and ``/problems``: the description of the API, and of what may go wrong, to be read."""
