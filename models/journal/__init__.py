"""The only code that writes a job's, run's or step's state.

``accepting`` records requests, ``due`` tells what could be claimed, ``claiming`` hands a job to a worker,
``superseding`` ends others in favour of one that takes their instance over, ``stepping`` records what a run comes
to know and ``changing`` what that means for the inventory, ``progress`` how far a call has come, ``undoing`` turns a
run round, ``settling`` ends a run, suspends it or hands it to another host, ``asking`` notes what is wanted of a job
by others, ``deciding`` what operators make of it and ``closing`` of hosts, ``recovering`` holds a host whose database
went back in time and ``repairing`` tells the journal again what that has forgotten, ``booting`` asks for the guests
that a host lost when it went down, ``events`` writes the history beside each of them. Every write of a
run is fenced: it carries the run's epoch on the row it changes, and the count of rows changed is checked.
"""
