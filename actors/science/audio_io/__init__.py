"""Audio files: decoding to samples, and encoding."""
