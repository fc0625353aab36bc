"""The schedule of periodic jobs, and how they are run."""
