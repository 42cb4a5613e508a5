"""Telling from outside a worker: whoever commits a job, or a decision on it, tells its host and Celery at once."""

from models.engine import Database
from models.outbox import delivered, undelivered_of
from models.states import OutboxKind
from worker.celery_app.app import build_app, keeps_results
from worker.celery_app.postman import forget, ring
from worker.settings import Settings


def ring_now(settings: Settings, database: Database, job_id: str) -> str | None:
    """Ring for the job that was just accepted or decided on; the error, if the broker could not be told."""
    app = None
    try:
        app = build_app(settings)
        if keeps_results(app):
            app.backend.get_state(job_id)  # connected before the letters are read, so that each is told while it holds
        for letter in undelivered_of(database, [job_id]):
            if letter.kind is OutboxKind.FORGET:
                forget(app, letter)
            elif letter.kind is OutboxKind.RING and settings.broker_url is not None:
                ring(app, letter.job, letter.host)
            else:
                continue  # an outcome is told by its host's worker
            delivered(database, letter)
    except Exception as error:  # noqa: BLE001  # the job is accepted: whatever the broker's client meets is only told
        return str(error) or type(error).__name__
    finally:
        if app is not None:
            app.close()
    return None
