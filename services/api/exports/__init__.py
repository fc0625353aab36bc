"""Exports of events as files."""
