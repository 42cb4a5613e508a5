"""The ledger: what this host's worker claimed and what its jobs came to, in a file beside the database.

A database that is restored from a backup has forgotten what came after; the host has not. The ledger tells that it
happened, and what the journal has to be told again. ``entries`` says what a line tells, ``file`` keeps the lines,
``writing`` is what the worker tells as it goes, ``reading`` is what all of it comes to.
"""
