"""How good detections are: sound event metrics."""
