"""The only room that speaks Celery: the app, the tasks that record rings, operators' verbs, the postman, and revoke.

A ring tells the worker to look at a job; it is never the job itself. The task that a ring runs records, then
claims or returns, and always ends with ``Ignore``: Celery's own bookkeeping never writes a job's state. Only
the postman does, from what settling left in the outbox.
"""
