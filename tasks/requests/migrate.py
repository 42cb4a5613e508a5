"""What a live migration asks for, in nova's words. The defaults are nova's."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from tasks.requests import Request


class MigrateRequest(Request):
    """A running guest that is to run on another host."""

    destination: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")] = Field(
        description="name of the host that it goes to"
    )
    bandwidth_mib_s: int | None = Field(
        default=None, ge=1, le=1024 * 1024, description="MiB per second at most; null: as fast as it goes"
    )
    post_copy: bool = Field(
        default=False,
        description="whether the guest may run on the destination before all of its memory has come: it then always "
        "completes, and dies if either host or the link between them does meanwhile",
    )
    auto_converge: bool = Field(
        default=False, description="whether a guest that dirties its memory too fast is slowed down; post_copy wins"
    )
    completion_timeout_s_per_gib: int = Field(
        default=800, ge=0, le=1_000_000, description="seconds per GiB of memory and copied disks; 0: no limit"
    )
    on_timeout: Literal["abort", "force_complete"] = Field(
        default="abort",
        description="what then: abort leaves the guest where it is; force_complete switches to post-copy where that "
        "is permitted, and else pauses the guest until it is over",
    )
    downtime_ms: int = Field(default=500, ge=1, le=2_000_000, description="longest pause at the switch, in the end")
    downtime_steps: int = Field(default=10, ge=1, le=1000, description="steps by which that pause grows")
    downtime_delay_s_per_gib: int = Field(
        default=75, ge=0, le=100_000, description="seconds between two of these steps, per GiB"
    )
