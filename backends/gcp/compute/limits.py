"""How long things may take, and how often is asked. Nothing waits for ever."""

from __future__ import annotations

from dataclasses import dataclass

USUAL_POLL_S = 10.0  # the default of Settings.gce_poll_seconds, for which the figures below are made


@dataclass(frozen=True)
class Limits:
    """Seconds. Figures are assumptions from what the service is said to take (facts, B3), with room."""

    poll: float = USUAL_POLL_S
    call: float = 30.0
    """One request."""
    again: float = 90.0
    """One question with all its repetitions."""
    operation: float = 180.0
    """An insert until its operation is done; later it counts as there, and is deleted."""
    gone: float = 300.0
    """A deletion until machine and disk are not found any more."""
    boot: float = 600.0
    """From RUNNING until its host keys are known and SSH answers."""

    @classmethod
    def of(cls, poll: float) -> Limits:
        """For a poll interval: shorter ones, as of an emulator, shorten what waits for the service's own slowness."""
        pace = min(1.0, poll / USUAL_POLL_S)

        def scaled(seconds: float, least: float) -> float:
            return max(seconds * pace, min(seconds, least))

        usual = cls()
        return cls(
            poll,
            scaled(usual.call, 10.0),
            scaled(usual.again, 8.0),
            scaled(usual.operation, 3.0),
            scaled(usual.gone, 5.0),
            scaled(usual.boot, 30.0),
        )
