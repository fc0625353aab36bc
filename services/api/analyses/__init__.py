"""Analyses of sessions."""
