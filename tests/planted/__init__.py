"""Bugs put in on purpose: each must be caught by a test that is named beside it."""
