"""Migrations from and to this host: `room` is the port's, the rest is what it is made of.

``travelling`` rewrites a guest's XML and ``request`` makes flags and parameters of a plan, both pure; ``calls`` runs
what may hang in threads of its own, ``jobs`` asks libvirt's jobs, ``peers`` looks at other hosts, ``monitor`` watches
a migration to its end at the ``pace`` that its plan permits, ``endings`` know when that is, ``fitness`` tells whether a
guest may come here.
"""
