"""``/docs`` and ``/problems``: documentation of the API and its problems as HTML pages."""
