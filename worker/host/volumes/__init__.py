"""Volumes as this host reaches them: one file for each kind, and the room that picks among them."""
