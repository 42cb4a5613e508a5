"""What is remembered: the vocabulary, the tables, the journal and the inventory.

The database is the queue and the truth. ``states`` names what a job, run or step can be; ``tables`` is the
schema; ``journal`` is the only code that writes a job's, run's or step's state; ``inventory`` keeps hosts,
workers, instances and devices; ``records`` are the frozen values that the rooms above read.
"""
