"""The doctor: what is wrong with a host, in one line each, with what to do.

``findings`` runs checks, each within a deadline; ``examination`` says which checks there are. The doctor changes
nothing: what it must open, it closes, and what it may not open (the driver inside a running worker), it lets be.
"""
