"""From samples to noise events: chunks, scores, segments, classification."""
