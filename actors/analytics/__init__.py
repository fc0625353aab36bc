"""What is made of the sessions that have ended: analyses, reports and exports."""
