"""What a job is doing, in words: what tables, pictures and lines have in common."""

from models.reading import HostRecord
from models.records import JobRecord, Json
from models.states import JobState
from worker.heartbeat import INTERVAL_S

_MIB = 1024 * 1024
#: Nothing coming through for this long is worth a word, in seconds.
_SILENCE_S = 3.0


def job_sentence(job: JobRecord) -> str:
    """Where the job is, and what it waits for."""
    if job.hopping:
        return f"on its way to host {job.host}, whose worker has its next step"
    if job.state is JobState.WAITING and job.not_before is not None:
        return f"waits until {job.not_before:%H:%M:%S} UTC"
    return "" if job.progress is None else progress_sentence(job.progress)


def silence_sentence(host: HostRecord) -> str:
    """That the host's worker does not answer, if it does not."""
    if host.stopped_at is not None:
        return f"the worker of {host.name} is stopped"
    if host.heartbeat_age_s is not None and host.heartbeat_age_s > 3 * INTERVAL_S:
        return f"the worker of {host.name} was last heard {host.heartbeat_age_s:.0f} s ago"
    return ""


def disabled_sentence(host: HostRecord) -> str:
    """Why the host takes no new guests, or no jobs; empty if it does."""
    recovers = None if host.recovering_because is None else f"in recovery: {host.recovering_because}"
    said = f"by {host.disabled_by}: {host.disabled_because}" if host.disabled_at is not None else ""
    return "; ".join(part for part in (recovers, said, host.down_because) if part)


def progress_sentence(progress: Json) -> str:
    """How far the call under way has come."""
    done, total = progress["done_bytes"] / _MIB, progress["total_bytes"] / _MIB
    far = f" {min(100.0, 100.0 * done / total):.0f} %, {done:.0f} of {total:.0f} MiB" if total else ""
    parts = [f"{progress['what']}{far}"]
    if progress.get("post_copy"):
        parts.append("post-copy")
    if progress["silent_s"] >= _SILENCE_S:
        parts.append(f"nothing has come through for {progress['silent_s']:.0f} s")
    elif progress["eta_s"] is not None:
        parts.append(f"about {progress['eta_s']:.0f} s left")
    return ", ".join(parts)
