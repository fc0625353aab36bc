"""What the API answers, as the client reads it. ``tests/unit/client/test_wire.py`` compares every
struct with the schema of the same name in the OpenAPI document, which describes the fields.

Fields that the client does not know are ignored, so it works with later releases of the API.
"""
