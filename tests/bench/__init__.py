"""`make bench`: what Hostler costs over the bare calls, measured in one run. Machines are noisy: the ratio counts."""
