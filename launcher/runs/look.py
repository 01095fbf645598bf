"""What the backend says now of runs that nobody follows."""

from __future__ import annotations

from launcher.errors import SamerunError
from launcher.runs.record import RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import Store
from launcher.settings import Settings


def look(settings: Settings, store: Store, record: RunRecord) -> RunRecord:
    """The record as it is now. When no process drives the run, its backend is asked first (`Driver.look`).

    Raises nothing: a backend that cannot be asked, or a folder that cannot be written, leaves the record as it was.
    """
    if record.state.ended or record.state is RunState.COLLECTING or not record.attempt or not record.attempt.handle:
        return record
    from launcher import registry
    from launcher.runs.driving.drive import Driver

    try:
        with store.looking(record.id) as free:
            record = store.read(record.id)
            if not free or record.state.ended:
                return record
            return Driver(store, settings, registry.load(record.backend, settings), record).look()
    except SamerunError:
        return record
