"""Whole paths, on real processes: what a sender, an operator and a guest see."""
