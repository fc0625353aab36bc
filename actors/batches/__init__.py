"""Create sessions from the recordings of batches."""
