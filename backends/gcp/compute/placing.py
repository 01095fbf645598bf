"""A machine put into the first zone that takes it, and machines taken away again.

Promises: what is about to be asked for is in the journal before it is asked; a zone that has refused, or has not
answered in time, is looked up to be empty before the next is tried; a machine that is there already under this
attempt's name is gone on with; nothing counts as gone before machine and disk were looked up not to be there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from backends.gcp.compute import names, refusals
from backends.gcp.compute.client import AlreadyThereError, Compute
from backends.gcp.compute.instance import Birth, Candidate, Shape, message
from backends.gcp.compute.journal import Journal
from backends.gcp.compute.refusals import RefusedError, Where
from backends.gcp.compute.seen import Disk, Life, Seen
from launcher.errors import RemoteError, SamerunError

Birthing = Callable[[Candidate, float], Birth]
"""What a machine at a candidate, first asked for at a Unix time, has of its own."""
AGAIN = 3  # machines made in one zone, at most, because the one before was gone when it was looked for


def place(compute: Compute, journal: Journal, shape: Shape, candidates: Sequence[Candidate], birth: Birthing) -> Seen:
    """The attempt's machine, made where there is none.

    Raises CapacityError, QuotaError, CredentialError or SpecError when no zone takes it, and then nothing of it is
    left; RemoteError when what is there cannot be told.
    """
    name = names.name_of(journal.folder.name)
    for found in compute.machines(name):
        _own(found)
        if found.life in (Life.COMING, Life.UP):
            return found
        clear(compute, journal, found.zone, name)
    refused: list[tuple[Candidate, RefusedError]] = []
    for candidate in _in_order(journal, candidates, refused):
        try:
            return _make(compute, journal, shape, candidate, birth)
        except RefusedError as error:
            refused.append((candidate, error))
            clear(compute, journal, candidate.zone, name)
    raise refusals.final(error for _, error in refused)


def clear(compute: Compute, journal: Journal | None, zone: str, name: str) -> None:
    """Delete machine and disk, and wait until they are not there. Raises RemoteError when they do not go."""
    until = time.monotonic() + compute.limits.gone
    pause, asked = min(compute.limits.poll / 10, 1.0), float("-inf")
    while (left := _left(compute, zone, name)) and time.monotonic() < until:
        if time.monotonic() - asked > 3 * pause + compute.limits.poll:
            asked = time.monotonic()
            _delete(compute, zone, name, left)
        time.sleep(pause)
        pause = min(2 * pause, compute.limits.poll)
    if left:
        remedy = f"`launch reap --backend gcp --yes`, or delete {left} {name} in {zone} on the console"
        raise RemoteError(f"the {left} {name} in {zone} is there still after it was deleted", remedy=remedy)
    if journal is not None and journal.folder.is_dir():
        journal.emptied(zone)


def _left(compute: Compute, zone: str, name: str) -> str:
    """What is there still: `machine`, `disk` or nothing."""
    if (found := compute.get(zone, name)) is not None:
        _own(found)
        return "machine"
    return "disk" if compute.disk(zone, name) is not None else ""


def _own(found: Seen) -> None:
    """Raises RemoteError for a machine of somebody else's: it is neither used nor deleted."""
    if not found.ours:
        remedy = "rename or delete it on the console if nobody needs it"
        raise RemoteError(f"{found.name} in {found.zone} has our name, and samerun has not made it", remedy=remedy)


def _delete(compute: Compute, zone: str, name: str, what: str) -> None:
    """Ask for it. A refusal is no end: the next look tells."""
    try:
        if what == "machine":
            compute.delete(zone, name)
        else:
            compute.delete_disk(zone, name)
    except RemoteError:
        return


def _in_order(
    journal: Journal, candidates: Sequence[Candidate], refused: Sequence[tuple[Candidate, RefusedError]]
) -> Iterator[Candidate]:
    """Those that no refusal speaks for, the one first that was asked for when this was broken off."""
    pending = journal.read().get("pending") or {}
    first = [each for each in candidates if (each.zone, each.spot) == (pending.get("zone"), pending.get("spot"))]
    for candidate in (*first, *(each for each in candidates if each not in first)):
        if not any(_speaks_for(error, of, candidate) for of, error in refused):
            yield candidate


def _speaks_for(error: RefusedError, of: Candidate, candidate: Candidate) -> bool:
    """Whether a refusal is one for this candidate too. Spot machines have quotas of their own."""
    if error.meaning.where is Where.REGION:
        return of.spot == candidate.spot and names.region_of(of.zone) == names.region_of(candidate.zone)
    return error.meaning.where is Where.NOWHERE


def _make(compute: Compute, journal: Journal, shape: Shape, candidate: Candidate, birth: Birthing) -> Seen:
    """One zone. Raises RefusedError, RemoteError; what is there afterwards has to be looked up."""
    name, zone = names.name_of(journal.folder.name), candidate.zone
    for _ in range(AGAIN):
        at = _asked(journal, candidate)
        request = names.request_id(journal.folder.name, zone, "insert", journal.turn(zone))
        try:
            operation = compute.insert(zone, message(shape, candidate, birth(candidate, at)), request)
            done = compute.wait(zone, operation)
        except AlreadyThereError:
            done = True
        if not done:
            raise RefusedError(zone, "RESOURCE_NOT_READY", f"not made within {compute.limits.operation:g} s")
        found = compute.get(zone, name)
        if found is not None:
            _own(found)
            if found.life in (Life.COMING, Life.UP):
                return found
        clear(compute, journal, zone, name)  # answered by an old request, or taken away at once
    raise RefusedError(zone, "RESOURCE_NOT_READY", "the machine is gone as soon as it is made")


def _asked(journal: Journal, candidate: Candidate) -> float:
    """Note that it is asked for, and since when: the same request says the same."""
    pending = journal.read().get("pending") or {}
    if (pending.get("zone"), pending.get("spot")) != (candidate.zone, candidate.spot):
        pending = {"zone": candidate.zone, "spot": candidate.spot, "at": int(time.time())}
        journal.write(pending=pending)
    return float(pending["at"])


def clear_all(compute: Compute, journal: Journal | None, name: str, zones: Iterable[str] = ()) -> list[str]:
    """Clear every zone that holds something of this name; what is left, in words. Raises nothing of ours.

    `zones` are looked at whatever the lists say; a list that cannot be had keeps nothing else from being deleted.
    """
    left: list[str] = []
    found = {zone for zone in zones if zone}
    lists: tuple[tuple[str, Callable[[], Sequence[Seen | Disk]]], ...] = (
        ("machine", lambda: compute.machines(name)),
        ("disk", compute.disks),
    )
    for what, ask in lists:
        try:
            found |= {each.zone for each in ask() if each.name == name}
        except SamerunError as error:
            left.append(f"the {what} {name} may be there still: {error.message}")
    for zone in sorted(found):
        try:
            clear(compute, journal, zone, name)
        except SamerunError as error:
            left.append(f"{error.message} ({error.remedy})" if error.remedy else error.message)
    return left
