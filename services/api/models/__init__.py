"""Noise types, models, trainings and validations."""
