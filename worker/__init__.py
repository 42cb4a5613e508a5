"""How a job is run. Read ``run`` first: it is the spine.

``celery_app`` is the only file that speaks Celery, ``settings`` the only reader of the environment, ``retrying``
the only user of tenacity; ``hands`` knows what this process has in hand, ``sweeper`` finds what could be
claimed, ``doctor`` tells what is wrong with the host, ``vigil`` whether its libvirt is there, ``watchdog`` tells a
supervisor that the worker is well, ``wiring`` is where the parts meet, ``cli`` is the ``hostler`` command; ``host``
holds the only rooms that speak libvirt, qemu-img and the file system.
"""
