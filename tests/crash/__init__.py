"""Faults: workers, daemons and links that break, and what must be true afterwards."""
