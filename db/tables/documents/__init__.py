"""The JSON documents that workers write and the API serves.

A struct where the API describes each field, and its docstring and comments become the description;
a `TypedDict` where it passes the document on as it is.
"""
