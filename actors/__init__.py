"""The worker processes: they take nudges, do the work and write down the result."""
