"""Reading a submission: everything that can be wrong with it is found here, before anything is written."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from models.records import Json, withheld_fields
from models.submission import Submission
from tasks.catalogue import Catalogue
from tasks.requests import BadRequestError, parse, shown_name
from tasks.requests.withheld import withhold

JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
HOST_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
#: A request is small; larger than this it is a mistake, in bytes of JSON.
REQUEST_MAX_BYTES = 256 * 1024


def read_submission(  # noqa: PLR0913  # the fields of one message
    catalogue: Catalogue,
    *,
    operation: str,
    host: object,
    instance: object,
    request: object,
    job_id: object,
    actor: str,
    canvas: Json | None = None,
    is_known: Callable[[str], bool] = lambda _: False,
) -> Submission:
    """The submission, with its request checked; raises BadRequestError with one sentence naming the field.

    A request from which something is withheld already is another ring for a job that ``is_known``, and nothing else.
    """
    known = catalogue.get(operation)
    if known is None:
        raise BadRequestError(f"operation: there is no {operation!r}; there are {', '.join(sorted(catalogue))}.")
    if not isinstance(job_id, str) or not JOB_ID.fullmatch(job_id):
        raise BadRequestError("job id: at most 128 letters, digits and . _ : @ -, beginning with a letter or digit.")
    if not isinstance(host, str) or not HOST_NAME.fullmatch(host):
        raise BadRequestError("host: a name of at most 63 lower-case letters, digits, dots and dashes is needed.")
    document = _document(request)
    lacking = withheld_fields(document)
    if not lacking:
        parse(known.request, document)
    elif not is_known(job_id):
        raise BadRequestError(f"{lacking[0]}: it is withheld, and no job is known by this id: send it whole.")
    shown, withheld = (document, None) if lacking else withhold(document, job_id)
    return Submission(
        id=job_id,
        operation=operation,
        job_class=known.job_class,
        instance=_uuid(instance),
        host=host,
        request=shown,
        actor=actor,
        canvas=canvas or None,
        withheld=withheld or None,
    )


def _uuid(instance: object) -> UUID:
    try:
        if isinstance(instance, str):
            return UUID(instance)
    except ValueError:
        pass
    raise BadRequestError("instance: a UUID is needed.")


def _document(request: object) -> Mapping[str, Any]:
    if not isinstance(request, Mapping):
        raise BadRequestError("request: a JSON object is needed.")
    try:
        size = len(json.dumps(request, allow_nan=False).encode())
    except (TypeError, ValueError) as error:
        raise BadRequestError(f"request: it is not plain JSON ({error}).") from error
    except RecursionError:
        raise BadRequestError("request: it is nested too deeply.") from None
    if size > REQUEST_MAX_BYTES:
        longest = max(request, key=lambda name: len(json.dumps(request[name])))
        raise BadRequestError(
            f"{shown_name(longest)}: it is too long: the request has {size} bytes, more than {REQUEST_MAX_BYTES}."
        )
    return request
