"""The operations, and the names under which their steps are journaled."""

import inspect
from collections import Counter
from typing import Any

import pytest

from models.states import JobClass
from tasks.catalogue import OPERATIONS
from tasks.operation import Operation, Step

#: Names of steps are journaled, and a job is resumed by them: a name is never reused for another fact, and never
#: taken out of this list. A step that an operation no longer has moves to RETIRED.
GOLDEN = {
    "spawn": (
        "ImagesCached",
        "RootDiskCreated",
        "EphemeralDisksCreated",
        "ConfigDriveWritten",
        "VolumesConnected",
        "InterfacesPlugged",
        "DomainDefined",
        "DomainRunning",
    ),
    "destroy": (
        "DomainStopped",
        "EarlierWorkEnded",
        "DomainUndefined",
        "VolumesDisconnected",
        "InterfacesUnplugged",
        "OtherHalfRemoved",
        "FilesRemoved",
    ),
    "attach_volume": ("VolumesConnected", "VolumeAttached"),
    "detach_volume": ("VolumeLeftDefinition", "VolumeReleased", "VolumeDisconnected"),
    "attach_interface": ("InterfacesPlugged", "InterfaceAttached"),
    "detach_interface": ("InterfaceLeftDefinition", "InterfaceReleased", "InterfaceUnplugged"),
    "migrate": (
        "SourceDescribed",
        "DestinationFits",
        "DestinationFilesMade",
        "DestinationVolumesConnected",
        "DestinationInterfacesPlugged",
        "DestinationOpen",
        "DomainMigrated",
        "SourceCleared",
        "DomainPersistent",
    ),
    "start": ("DomainStarted",),
    "stop": ("DomainShutOff",),
    "reboot": ("DomainRebooted",),
    "pause": ("DomainPaused",),
    "unpause": ("DomainUnpaused",),
    "suspend": ("DomainSaved",),
    "resume": ("DomainResumed",),
    "adopt": ("DomainAdopted",),
    "release": ("DomainReleased",),
}
RETIRED: frozenset[str] = frozenset()

STEPS: list[Step[Any]] = [step for operation in OPERATIONS.values() for step in operation.steps]
operations = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
steps = pytest.mark.parametrize("step", {step.name: step for step in STEPS}.values(), ids=lambda step: step.name)


def test_the_names_of_steps_are_golden() -> None:
    """Whoever changes an operation's steps meets this list, and the rule above it."""
    assert {name: tuple(step.name for step in operation.steps) for name, operation in OPERATIONS.items()} == GOLDEN


def test_every_name_means_one_fact() -> None:
    """No two classes share a name, and no name has come back from retirement."""
    classes: dict[str, set[type]] = {}
    for step in STEPS:
        classes.setdefault(step.name, set()).add(type(step))
    assert {name: kinds for name, kinds in classes.items() if len(kinds) > 1} == {}
    assert not RETIRED & set(classes)


@operations
def test_an_operation_names_each_step_once(operation: Operation[Any]) -> None:
    """The index over the journal's steps would refuse the second."""
    assert max(Counter(step.name for step in operation.steps).values()) == 1


@steps
def test_a_step_says_which_fact_it_is(step: Step[Any]) -> None:
    """In the docstring of its class: one sentence that is true once the step is done."""
    fact = inspect.getdoc(type(step))
    assert fact is not None
    assert fact.endswith(".")
    assert fact[0].isupper()


@steps
def test_a_step_is_named_after_its_class(step: Step[Any]) -> None:
    """Who reads a name in the journal finds the code."""
    assert step.name == type(step).__name__
    assert len(step.name) <= 64


@operations
def test_an_operation_is_found_under_its_name(operation: Operation[Any]) -> None:
    """Its name fits a Celery task's and the journal's column."""
    assert OPERATIONS[operation.name] is operation
    assert operation.name.isidentifier()
    assert operation.name == operation.name.lower()
    assert operation.version >= 1


@operations
def test_a_point_of_no_return_is_one_of_the_steps(operation: Operation[Any]) -> None:
    """A name that no step has would never be passed."""
    assert operation.point_of_no_return in {None, *(step.name for step in operation.steps)}


def test_destroy_alone_supersedes() -> None:
    """And it cannot be turned round from its first effect on."""
    assert [operation.name for operation in OPERATIONS.values() if operation.supersedes] == ["destroy"]
    assert OPERATIONS["destroy"].point_of_no_return == OPERATIONS["destroy"].steps[0].name
    assert OPERATIONS["destroy"].job_class is JobClass.DESTROY
