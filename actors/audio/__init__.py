"""The main pipeline: from an uploaded recording to detections, in four steps."""
