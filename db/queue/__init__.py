"""What is claimed next, by whom, and for how long."""
