"""Ringing from outside a worker: whoever commits a job tells its host at once."""

from models.engine import Database
from models.outbox import delivered, undelivered
from models.records import JobRecord
from models.states import OutboxKind
from worker.celery_app.app import build_app
from worker.celery_app.postman import ring
from worker.settings import Settings


def ring_now(settings: Settings, database: Database, job: JobRecord) -> str | None:
    """Ring for the job that was just accepted; the error, if the broker could not be told."""
    app = None
    try:
        app = build_app(settings)
        for letter in undelivered(database, job=job.id):
            if letter.kind is OutboxKind.RING:
                ring(app, job, letter.host)
                delivered(database, letter)
    except Exception as error:  # noqa: BLE001  # the job is accepted: whatever the broker's client meets is only told
        return str(error) or type(error).__name__
    finally:
        if app is not None:
            app.close()
    return None
