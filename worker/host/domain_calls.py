"""Calls on a domain: it is asked whose it is first, and an error may mean that its purpose is reached already."""

from collections.abc import Callable
from uuid import UUID

from tasks.host import HostError
from worker.host.connections import ConnectionClass, Connections
from worker.host.domain_document import refuse_anothers
from worker.host.errors import Call, is_look_first
from worker.host.sightings import Presence, presence_of


class DomainCalls:
    """What the rooms that act on domains have in common."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def present(self, connection_class: ConnectionClass, instance: UUID) -> Presence | None:
        """What is there, whosever it is."""
        with self._connections.calling(connection_class, Call.LOOK) as connection:
            return presence_of(connection, instance)

    def ours(self, connection_class: ConnectionClass, instance: UUID) -> Presence | None:
        """What is there, if it is ours or nothing. Raises HostError(CONFLICT) when it is another's."""
        present = self.present(connection_class, instance)
        if present is not None:
            refuse_anothers(instance, present.identity)
        return present

    def attempt(self, connection_class: ConnectionClass, call: Call, effect: Callable[[], object]) -> HostError | None:
        """Have the effect on a domain. Returned is an error that may mean 'so already', which a look must tell."""
        try:
            with self._connections.calling(connection_class, call):
                effect()
        except HostError as error:
            if is_look_first(error, call):
                return error
            raise
        return None
