"""Training of noise types on labelled recordings."""
