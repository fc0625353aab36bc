"""The backbone and the base types: the probability of each noise type in a sound."""
