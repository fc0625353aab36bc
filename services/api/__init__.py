"""The endpoints, by domain."""
