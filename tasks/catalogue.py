"""The operations that this revision knows, by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tasks.destroy import destroy
from tasks.operation import Operation
from tasks.spawn import spawn

Catalogue = Mapping[str, Operation[Any]]

OPERATIONS: Catalogue = MappingProxyType({operation.name: operation for operation in (spawn, destroy)})
