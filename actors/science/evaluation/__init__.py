"""Quality of detections: sound event metrics."""
