"""What a guest may use of its host, in the words of nova's ``quota:`` extra specs."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from tasks.requests.parts import Part

Rate = Annotated[int | None, Field(ge=1, le=1 << 50)]


class Quota(Part):
    """Shares and limits of processors and disks; null: as the host gives them."""

    cpu_shares: int | None = Field(
        default=None, ge=2, le=262_144, description="its weight among the host's guests when processors are short"
    )
    cpu_period_us: int | None = Field(
        default=None, ge=1000, le=1_000_000, description="the period of cpu_quota_us, in microseconds; null: 100,000"
    )
    cpu_quota_us: int | None = Field(
        default=None,
        ge=1000,
        le=1_000_000_000,
        description="how long each of its processors may run in a period, in microseconds",
    )
    disk_read_bytes_sec: Rate = Field(default=None, description="of each disk of its own, in bytes a second")
    disk_write_bytes_sec: Rate = Field(default=None, description="of each disk of its own, in bytes a second")
    disk_total_bytes_sec: Rate = Field(default=None, description="of each disk of its own, in bytes a second")
    disk_read_iops_sec: Rate = Field(default=None, description="of each disk of its own, in requests a second")
    disk_write_iops_sec: Rate = Field(default=None, description="of each disk of its own, in requests a second")
    disk_total_iops_sec: Rate = Field(default=None, description="of each disk of its own, in requests a second")

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        if self.cpu_period_us is not None and self.cpu_quota_us is None:
            raise ValueError("cpu_period_us needs cpu_quota_us")
        for what in ("bytes", "iops"):
            total, read, write = (getattr(self, f"disk_{way}_{what}_sec") for way in ("total", "read", "write"))
            if total is not None and (read is not None or write is not None):
                raise ValueError(
                    f"disk_total_{what}_sec goes with neither disk_read_{what}_sec nor disk_write_{what}_sec"
                )
        return self

    @property
    def of_disks(self) -> dict[str, int]:
        """The limits of a disk, by libvirt's name of each."""
        limits = {
            f"{way}_{what}_sec": getattr(self, f"disk_{way}_{what}_sec")
            for what in ("bytes", "iops")
            for way in ("total", "read", "write")
        }
        return {name: limit for name, limit in limits.items() if limit is not None}
