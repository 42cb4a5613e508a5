"""Recovery: a database that went back in time is noticed, its host held, and the journal told again on an order.

``judging`` says whether journal and ledger tell one story, ``plan`` what the journal is to be told, ``keeper`` does
both while the worker runs.
"""
