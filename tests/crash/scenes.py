"""The table of crash rows on one host: each step of each operation, each of its moments, each fault that can occur.

What an operation is carried out on, its scene, is written here; the rows come from the operations themselves. What is
left out is left out by a reason.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from tasks.catalogue import OPERATIONS
from tests.crash.moments import JOB, Moment
from tests.crash.stage import Stage
from tests.crash.striking import MAY_FAIL, OF_COMMITS, OF_QEMU, Fault


@dataclass(frozen=True)
class Scene:
    """What an operation is carried out on."""

    before: Sequence[str]  #: the operations that bring the instance to where it begins
    state_before: str  #: what the inventory calls it then
    state_after: str
    begins_process: bool = False  #: whether the operation starts a QEMU
    ends_process: bool = False  #: whether it ends one
    only_look: frozenset[str] = frozenset()  #: steps that never act in this scene
    undone: bool = True  #: whether a run of it can turn round once it has acted
    of_others: bool = False  #: whether it begins with a domain that somebody else made


SCENES = {
    "spawn": Scene(
        (),
        "absent",
        "running",
        begins_process=True,
        only_look=frozenset({"ImagesCached", "EphemeralDisksCreated", "ConfigDriveWritten"}),
    ),
    "destroy": Scene(
        ("spawn",),
        "running",
        "deleted",
        ends_process=True,
        only_look=frozenset({"EarlierWorkEnded", "VolumesDisconnected", "InterfacesUnplugged"}),
        undone=False,
    ),
    "attach_volume": Scene(("spawn",), "running", "running"),
    "attach_interface": Scene(("spawn",), "running", "running"),
    "detach_volume": Scene(
        ("spawn", "stop"),
        "stopped",
        "stopped",
        only_look=frozenset({"VolumeReleased", "VolumeDisconnected"}),
        undone=False,
    ),
    "detach_interface": Scene(
        ("spawn", "stop"),
        "stopped",
        "stopped",
        only_look=frozenset({"InterfaceReleased", "InterfaceUnplugged"}),
        undone=False,
    ),
    "start": Scene(("spawn", "stop"), "stopped", "running", begins_process=True),
    "stop": Scene(("spawn",), "running", "stopped", ends_process=True, undone=False),
    "reboot": Scene(("spawn",), "running", "running", begins_process=True, ends_process=True, undone=False),
    "pause": Scene(("spawn",), "running", "paused"),
    "unpause": Scene(("spawn", "pause"), "paused", "running"),
    "suspend": Scene(("spawn",), "running", "suspended", ends_process=True),
    "resume": Scene(("spawn", "suspend"), "suspended", "running", begins_process=True),
    "adopt": Scene((), "absent", "running", of_others=True),
    "release": Scene(("spawn",), "running", "deleted", undone=False),
}
#: Operations whose rows are in files of their own.
ELSEWHERE = {"migrate": "its rows are in test_migration.py, on two hosts"}
#: Steps that a host alone has no part in.
OF_TWO_HOSTS = frozenset({"OtherHalfRemoved"})

LOOKING = (Moment.LOOK, Moment.LOOKED)
MAKING = (*LOOKING, Moment.INTENDING, Moment.INTENDED, Moment.DO, Moment.MADE, Moment.DONE)
UNDOING = (Moment.UNDO, Moment.UNDONE)
#: The moments at which a connection can be cut in a COMMIT: those that are held right before theirs.
COMMITTING = frozenset({Moment.INTENDING, Moment.SETTLE})


@dataclass(frozen=True)
class Row:
    """One fault at one moment of one step of one operation."""

    operation: str
    step: str
    moment: Moment
    fault: Fault

    @property
    def name(self) -> str:
        """By which it is replayed."""
        return f"{self.operation}-{self.step}-{self.moment}-{self.fault}"

    @property
    def is_undone(self) -> bool:
        """Whether its run is turned round."""
        return self.moment in UNDOING

    @property
    def may_fail(self) -> bool:
        """Whether the fault can be the answer to what was asked for."""
        return self.fault in MAY_FAIL


@dataclass
class Table:
    """All rows, and what is left out, by its reason."""

    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)


def table() -> Table:
    """Made from the operations."""
    made = Table()
    for operation in sorted(OPERATIONS):
        if operation in ELSEWHERE:
            made.left_out.setdefault(ELSEWHERE[operation], []).append(operation)
            continue
        for row in _every(operation):
            why = _left_out(row)
            if why is None:
                made.rows.append(row)
            else:
                made.left_out.setdefault(why, []).append(row.name)
    return made


def _every(operation: str) -> Iterator[Row]:
    for fault in Fault:
        for step in OPERATIONS[operation].steps:
            for moment in (*MAKING, *UNDOING):
                yield Row(operation, step.name, moment, fault)
        yield Row(operation, JOB, Moment.SETTLE, fault)


def _left_out(row: Row) -> str | None:  # noqa: PLR0911  # a list of reasons
    """Why the row cannot be, if it cannot."""
    scene = SCENES[row.operation]
    if row.step in OF_TWO_HOSTS:
        return "a host alone has no part in the step"
    if row.step in scene.only_look and row.moment not in LOOKING:
        return "the step finds its fact true and never acts"
    if row.moment in UNDOING and not scene.undone:
        return "there is only forward"
    if row.moment in UNDOING and row.step == OPERATIONS[row.operation].no_return_after:
        return "once the step has acted there is only forward, but for a worker that died: see test_devices.py"
    if row.fault in OF_COMMITS and row.moment not in COMMITTING:
        return "nothing is being committed"
    if row.fault in OF_QEMU and not _has_process(row, scene):
        return "the instance has no QEMU then"
    return None


def acting_steps(operation: str) -> list[str]:
    """The steps that make something true in the operation's scene."""
    only_look = SCENES[operation].only_look | OF_TWO_HOSTS
    return [step.name for step in OPERATIONS[operation].steps if step.name not in only_look]


def _has_process(row: Row, scene: Scene) -> bool:
    """Whether a QEMU of the instance runs at that moment. The step that begins or ends it is the acting one."""
    steps = [step.name for step in OPERATIONS[row.operation].steps]
    acts_at = {"spawn": len(steps) - 1}.get(row.operation, 0)
    at = len(steps) if row.step == JOB else steps.index(row.step)
    late = {Moment.DO, Moment.MADE, Moment.DONE, *UNDOING}
    acted = at > acts_at or (at == acts_at and row.moment in late)
    if row.moment in UNDOING:
        # All steps were made; undone so far are those behind this one.
        acted = at == acts_at and row.moment is Moment.UNDO
    if scene.begins_process and scene.ends_process:
        return True
    if scene.begins_process:
        return acted
    if scene.ends_process:
        return not acted or row.moment is Moment.DO
    return scene.state_before not in {"stopped", "suspended", "absent"}


def request(stage: Stage, operation: str, instance: UUID) -> dict[str, Any]:  # noqa: PLR0911  # a table
    """What the operation is asked for with."""
    match operation:
        case "spawn":
            return stage.guest(instance)
        case "attach_volume":
            return {"volume": stage.volume(instance, "extra")}
        case "attach_interface":
            return {"interface": stage.interface("extra")}
        case "detach_volume":
            return {"volume_id": stage.volume(instance, "kept")["id"]}
        case "detach_interface":
            return {"interface_id": "kept"}
        case "stop":
            return {"timeout_s": 0}
        case "reboot":
            return {"type": "hard"}
        case _:
            return {}


@dataclass
class Acted:
    """A row that is being carried out."""

    row: Row
    instance: UUID = field(default_factory=uuid4)
    job: str = ""
    boots_before: int = 0
    earlier: list[str] = field(default_factory=list)  #: the jobs before it

    @property
    def scene(self) -> Scene:
        """What the row is carried out on."""
        return SCENES[self.row.operation]
