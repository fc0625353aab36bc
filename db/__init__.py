"""Storage: the database, the blob store and the settings, independent of workers and HTTP."""
