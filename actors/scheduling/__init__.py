"""What runs at which time of day, and who sees to it."""
