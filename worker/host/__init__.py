"""The host rooms: the only ones that speak libvirt, qemu-img and the file system of guests.

`worker.host.hypervisor.Hypervisor` is what fits the port in `tasks.host`; nothing else here is for other rooms.
No libvirt object, no ``libvirtError`` and no ``OSError`` about a guest's files leaves this package.
"""
