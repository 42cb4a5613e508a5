"""Recovering a host whose database went back in time: what its worker would change, and the word to change it."""

import time
from typing import TYPE_CHECKING, Any

import click

from worker.cli.exits import BAD_REQUEST, FAILED, OK, TIMEOUT
from worker.cli.group import JSON_OPTION, actor, journal, no_such, print_json, settings
from worker.cli.inventory import hosts

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.engine import Database
    from models.journal.recovering import Recovery

#: How often the journal is read, in seconds.
INTERVAL_S = 0.2


@hosts.command("recover")
@click.argument("name")
@click.option("--apply", is_flag=True, help="Have it done, as it is shown, and the host take jobs again.")
@click.option("--because", "reason", default="", help="Why; it stands in the history of what is changed.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, max=86_400),
    default=60.0,
    show_default=True,
    help="Seconds to wait for the host's worker at most.",
)
@JSON_OPTION
def recover_host(name: str, reason: str, timeout_s: float, *, apply: bool, as_json: bool) -> int:
    """Show what a journal that went back in time is to be told again, and have it told.

    The host's worker, which must run, finds that out by its ledger and by the domains that are there. Nothing of the
    host itself is changed.
    """
    from models.inventory import host_exists
    from models.journal.asking import Asked
    from models.journal.recovering import ask, open_recovery

    database = journal(settings())
    if not host_exists(database, name):
        no_such("host", name)
    until = time.monotonic() + timeout_s
    found = _once(lambda: open_recovery(database, name), lambda each: each is None or each.plan is not None, until)
    if found is None:
        silent = _silent(database, name)
        hint = f"; but {silent}: only a running worker finds out that the database went back" if silent else ""
        _say({"host": name, "recovering": False}, f"{name} is not in recovery: there is nothing to do{hint}.", as_json)
        return OK
    if found.plan is None or found.digest is None:
        click.echo(f"hostler: {_silence(database, name)}.", err=True)
        return TIMEOUT
    if not apply:
        _say(_document(found), f"{_text(found)}\nNothing was changed; do it with --apply.", as_json)
        return OK
    answer = ask(database, name, found.digest, Asked(actor(), reason))
    if not answer.taken:
        click.echo(f"hostler: {answer.sentence}", err=True)
        return BAD_REQUEST
    return _follow(database, found, until, as_json=as_json)


def _follow(database: "Database", asked: "Recovery", until: float, *, as_json: bool) -> int:
    from models.journal.recovering import recovery

    def is_over(found: "Recovery | None") -> bool:
        return found is None or found.ended_at is not None or found.refusal is not None

    came_to = _once(lambda: recovery(database, asked.number), is_over, until)
    if came_to is None:
        click.echo("hostler: the database does not know the recovery any more: it went back again.", err=True)
        return FAILED
    if came_to.ended_at is not None:
        left = "" if came_to.refusal is None else f"\nNot done:\n{came_to.refusal}"
        _say(
            _document(came_to), f"{_text(came_to)}{left}\n{came_to.host} has recovered, and takes jobs again.", as_json
        )
        return OK
    if came_to.refusal is not None:
        click.echo(f"hostler: {came_to.refusal}", err=True)
        return BAD_REQUEST
    in_hand = (came_to.plan or {}).get("in_hand", ())
    why = f"calls of {', '.join(in_hand)} have not returned yet" if in_hand else _silence(database, came_to.host)
    click.echo(f"hostler: {why}; it is applied once its worker comes to it.", err=True)
    return TIMEOUT


def _once(
    read: "Callable[[], Recovery | None]", is_enough: "Callable[[Recovery | None], bool]", until: float
) -> "Recovery | None":
    """What is read once it is enough, or the time is up."""
    found = read()
    while not is_enough(found) and time.monotonic() < until:
        time.sleep(INTERVAL_S)
        found = read()
    return found


def _silence(database: "Database", name: str) -> str:
    silent = _silent(database, name)
    return f"{silent}: start it" if silent else f"the worker of {name} has not told yet; see its log"


def _silent(database: "Database", name: str) -> str:
    from models import reading
    from worker.cli.sentences import silence_sentence

    host = next((found for found in reading.list_hosts(database) if found.name == name), None)
    return "" if host is None else silence_sentence(host)


def _document(found: "Recovery") -> dict[str, Any]:
    return {
        "host": found.host,
        "recovering": found.ended_at is None,
        "because": found.because,
        "begun_at": found.begun_at.isoformat(),
        "plan": found.plan,
        "ended_at": None if found.ended_at is None else found.ended_at.isoformat(),
        "not_done": found.refusal.splitlines() if found.refusal else [],
    }


def _text(found: "Recovery") -> str:
    plan = found.plan or {}
    claims = plan["claims"]
    lines = [
        f"{found.host} is in recovery since {found.begun_at:%Y-%m-%d %H:%M:%S} UTC: {found.because}.",
        f"Claims: {claims['database']} in the database, {claims['ledger_from']} to {claims['ledger']} in the ledger.",
        *_part("Instances become", map(_instance_line, plan["instances"])),
        *_part("Jobs have come to", map(_job_line, plan["jobs"])),
        *_part("Epochs are raised above those seen of", plan["epochs"]),
        *_part(
            "Jobs that go on afterwards (cancel now what must not)",
            (f"{job['id']}  {job['operation']} of {job['instance']}, {job['state']}" for job in plan["goes_on"]),
        ),
        *_part("To look after", plan["left"]),
    ]
    return "\n".join(lines)


def _part(title: str, lines: Any) -> list[str]:  # noqa: ANN401  # whatever gives lines
    found = [f"  {line}" for line in lines]
    return [f"{title}:", *found] if found else []


def _instance_line(change: dict[str, Any]) -> str:
    before, after = change["from"], change["to"]
    was = "unknown" if before is None else f"{before['state']} on {before['host']}"
    shown = "no domain" if change["domain"] is None else f"a domain, {change['domain']}"
    return (
        f"{change['id']}  {was} -> {after['state']} on {after['host']}, by job {change['by']}; the host shows {shown}"
    )


def _job_line(change: dict[str, Any]) -> str:
    was = change["from"] or "unknown"
    return f"{change['id']}  {change['operation']} of {change['instance']}: {was} -> {change['to']}"


def _say(document: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        click.echo(text)
