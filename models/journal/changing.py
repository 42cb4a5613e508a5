"""Changing: what a step's fact means for the inventory, written in the step's own commit."""

from sqlalchemy import bindparam, delete, update
from sqlalchemy.dialects import postgresql, sqlite

from models.engine import now_in_database
from models.journal.claiming import Lease
from models.prepared import Prepared, Speaker
from models.records import Change, DeviceAdded, DeviceChanged, DeviceRemoved, InstanceIs, InstanceMoved
from models.states import InstanceState
from models.tables import devices, instances

_INSTANCE_IS = Prepared(
    update(instances)
    .where(instances.c.id == bindparam("of"), instances.c.epoch == bindparam("mine"))
    .values(state=bindparam("new_state"), updated_at=now_in_database())
)
_INSTANCE_WANTED = Prepared(
    update(instances)
    .where(instances.c.id == bindparam("of"), instances.c.epoch == bindparam("mine"))
    .values(wanted=bindparam("new_wanted"))
)
_INSTANCE_MOVED = Prepared(
    update(instances)
    .where(instances.c.id == bindparam("of"), instances.c.epoch == bindparam("mine"))
    .values(host=bindparam("new_host"), updated_at=now_in_database())
)
_SAME_DEVICE = (
    devices.c.instance == bindparam("of"),
    devices.c.kind == bindparam("of_kind"),
    devices.c.key == bindparam("under"),
)
_DEVICE_IS = {
    dialect.dialect.name: Prepared(
        (upsert := dialect.insert(devices)).on_conflict_do_update(
            index_elements=["instance", "kind", "key"],
            set_={name: upsert.excluded[name] for name in ("details", "exclusive", "place")},
        ),
        *devices.c.keys(),
    )
    for dialect in (postgresql, sqlite)
}
_DEVICE_GONE = Prepared(delete(devices).where(*_SAME_DEVICE))


def apply(connection: Speaker, lease: Lease, change: Change) -> None:
    """Write the change of the job's instance."""
    of = {"of": lease.job.instance}
    match change:
        case DeviceAdded(device) | DeviceChanged(device):
            _DEVICE_IS[connection.dialect.name].run(
                connection,
                {
                    "instance": lease.job.instance,
                    "kind": device.kind,
                    "key": device.key,
                    "details": dict(device.details),
                    "exclusive": device.exclusive,
                    "place": device.place,
                },
            )
        case DeviceRemoved(kind, key):
            _DEVICE_GONE.run(connection, of | {"of_kind": kind, "under": key})
        case InstanceIs(state, wanted):
            _INSTANCE_IS.run(connection, of | {"mine": lease.epoch, "new_state": state})
            if wanted is not None:
                want(connection, lease, wanted)
        case InstanceMoved(host):
            _INSTANCE_MOVED.run(connection, of | {"mine": lease.epoch, "new_host": host})


def want(connection: Speaker, lease: Lease, state: InstanceState) -> None:
    """Write what the job's instance is to be from here on, whatever becomes of its host."""
    wanted = {"of": lease.job.instance, "mine": lease.epoch, "new_wanted": state}
    _INSTANCE_WANTED.run(connection, wanted)
