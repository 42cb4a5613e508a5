"""The only code that writes a job's, run's or step's state.

``accepting`` records requests, ``due`` tells what could be claimed, ``claiming`` hands a job to a worker,
``stepping`` records what a run comes to know, ``settling`` ends or suspends a run, ``events`` writes the history
beside each of them. Every write of a run is fenced: it carries the run's epoch on the row it changes, and the
count of rows changed is checked.
"""
