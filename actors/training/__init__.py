"""Learning noise types from labelled recordings."""
