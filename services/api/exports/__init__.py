"""Exports of detections as files."""
