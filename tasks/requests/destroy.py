"""What a destroy asks for."""

from tasks.requests import Request


class DestroyRequest(Request):
    """The instance and everything of it is to be removed; no field but the version."""
