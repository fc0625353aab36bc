"""Claims of work items, and the order in which they are made."""
