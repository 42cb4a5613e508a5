"""Real hosts, brokers and databases, private to a test run: each starts within seconds and leaves nothing behind.

Nothing here needs pytest; `tests.lab.fixtures` hands the same things to tests.
"""
