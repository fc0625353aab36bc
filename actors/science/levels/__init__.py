"""Sound levels by IEC 61672 and IEC 61260."""
