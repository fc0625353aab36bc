"""Pictures: spectrogram with events, levels over time, confusion."""
