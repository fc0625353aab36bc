"""Plots: spectrogram with events, levels over time, confusion matrix."""
