"""The API server, and the service that runs everything in one process."""
