"""Clamor's tests: unit (no server), integration (real servers), acceptance (real processes)."""
