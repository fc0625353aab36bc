"""The backbone and the base types: how likely each noise type is in a sound."""
