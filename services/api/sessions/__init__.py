"""Sessions: recordings, their progress, and their detections."""
