"""The host rooms: the only ones that speak libvirt, qemu-img, volumes' servers and the file system of guests.

`worker.host.hypervisor.Hypervisor` has the rooms of the port in `tasks.host`.
No libvirt object, no ``libvirtError`` and no ``OSError`` about a guest's files leaves this package.
"""
