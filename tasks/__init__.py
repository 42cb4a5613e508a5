"""What a job means: each operation is a readable tuple of steps, each step one fact about a host.

``operation`` defines Operation and Step; ``host`` is the port, what a step may ask of a host; ``requests`` says
what may be asked; one module per operation holds its tuple of steps; ``steps`` holds the steps by resource;
``catalogue`` lists the operations. No Celery, libvirt, SQL, environment or clock in this package.
"""
