"""Facts shared by workers and services, light enough to be imported from anywhere."""
