"""One instance from its creation until it is gone: PROVISIONING, STAGING, RUNNING, STOPPING (TERMINATED), gone.

All methods are called with the world's lock held. What is slow (booting, killing) is done aside, and the life goes on
when it is done: an instance is never gone while a process of its lives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from google.cloud import compute_v1

from tests.emulators.compute.clock import Timer
from tests.emulators.compute.faults import INSTANCE, Fault, Faults
from tests.emulators.compute.service.rules import seconds_of
from tests.emulators.compute.settings import World

if TYPE_CHECKING:
    from tests.emulators.compute.machine.host import Host


class Vm:
    """`message` is what the service answers; times are in seconds of the emulator's clock."""

    def __init__(self, world: World, faults: Faults, zone: str, message: compute_v1.Instance) -> None:
        self._world, self._faults = world, faults
        self.zone, self.message = zone, message
        self.created = world.clock.now()
        self.running_since: float | None = None
        self.gone_at: float | None = None
        self.preempted = False
        self.guest: dict[str, str] = {}
        """Guest attributes, by `namespace/key`."""
        self.host: Host | None = None
        self.boot: Callable[[Vm], Host] | None = None
        self.ended: Callable[[Vm], None] = lambda vm: None
        """Called when it is gone, to take it from the tables."""
        self.error: BaseException | None = None
        """Why the machine did not boot, where the emulator is to blame."""
        self._when_up: list[Callable[[], None]] = []
        self._when_gone: list[Callable[[], None]] = []
        self._timers: list[Timer] = []
        self.faults_due: dict[str, Fault] = {}
        self.pending = True
        """Whether it will come up or fail by itself; a creation that is stuck for good does neither."""
        self.keep_disks = False
        self._delete_wanted = self._off_wanted = self._booting = False

    @property
    def name(self) -> str:
        return str(self.message.name)

    @property
    def status(self) -> str:
        return str(self.message.status) if self.gone_at is None else "gone"

    @property
    def metadata(self) -> dict[str, str]:
        return {item.key: item.value for item in self.message.metadata.items}

    @property
    def creating(self) -> bool:
        return self.status in ("PROVISIONING", "STAGING")

    @property
    def stopping(self) -> bool:
        return self.status in ("STOPPING", "PENDING_STOP")

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do it in `seconds`, unless the instance is gone by then."""
        self._timers.append(self._world.clock.after(seconds, action))

    def when_up(self, action: Callable[[], None]) -> None:
        self._when_up.append(action)

    def when_gone(self, action: Callable[[], None]) -> None:
        if self.gone_at is None:
            self._when_gone.append(action)
        else:
            action()

    # Coming up.

    def run(self) -> None:
        """It is RUNNING: its deadline counts, and its machine boots."""
        clock = self._world.clock
        self.message.status = "RUNNING"
        self.message.last_start_timestamp = clock.stamp()
        self.running_since = clock.now()
        self._set_deadline()
        for kind in INSTANCE:
            fault = self._faults.take((kind,), "instances.insert", self.zone, self.name)
            if fault is not None:
                self.faults_due[kind] = fault
        if (fault := self.faults_due.get("preempt")) is not None:
            self.later(fault.number("seconds"), self.preempt)
        if (fault := self.faults_due.get("vanish")) is not None:
            self.later(fault.number("seconds"), self.finish)
        if self.boot is not None and "no-boot" not in self.faults_due:
            slow = self.faults_due.get("slow-boot")
            self.later(self._world.settings.boot_seconds + (slow.number("seconds") if slow else 0.0), self._boot)
        actions, self._when_up = self._when_up, []
        for action in actions:
            action()

    def _set_deadline(self) -> None:
        scheduling, clock = self.message.scheduling, self._world.clock
        if "max_run_duration" in scheduling:
            seconds = seconds_of(scheduling.max_run_duration)
        elif scheduling.termination_time:
            seconds = clock.seconds_of(scheduling.termination_time) - clock.now()
        else:
            return
        status = compute_v1.ResourceStatusScheduling(termination_timestamp=clock.stamp(clock.now() + seconds))
        self.message.resource_status = compute_v1.ResourceStatus(scheduling=status)
        self.later(seconds, self.deadline)

    def _boot(self) -> None:
        if self.status == "RUNNING":
            self._booting = True
            self._world.aside(f"boot {self.name}", self._boot_aside)

    def _boot_aside(self) -> None:
        assert self.boot is not None
        host = None
        try:
            host = self.boot(self)
            host.start()
        except Exception as error:  # noqa: BLE001 -- raised when the emulator is closed
            self.error = error
        with self._world.changed:
            self._booting, self.host = False, host
            if self._off_wanted:
                self._off()
            elif host is not None and self.error is None:
                self._publish_host_keys(host.host_keys)

    def _publish_host_keys(self, keys: dict[str, str]) -> None:
        """What the guest agent does at first boot, where metadata allows it."""
        if self.metadata.get("enable-guest-attributes", "").upper() != "TRUE":
            return
        if "no-guest-attributes" in self.faults_due:
            return
        late = self.faults_due.get("late-guest-attributes")
        if late is None:
            self.guest.update(keys)
        else:
            self.later(late.number("seconds"), lambda: self.guest.update(keys))

    # Going down.

    def stop(self, seconds: float, *, delete: bool) -> None:
        """STOPPING now; in `seconds` all its processes are killed, and it is gone or (not `delete`) TERMINATED."""
        if self.gone_at is not None:
            return
        if delete:
            self._delete_wanted = True
        if self.stopping:
            return
        self.message.status = "STOPPING"
        host = self.host
        if host is not None and self._world.settings.soft_off:
            self._world.aside(f"soft off {self.name}", host.soft_off)
        self.later(seconds, self._off)

    def _off(self) -> None:
        if self._booting:
            self._off_wanted = True
        elif self.host is None:
            self._end()
        else:
            self._world.aside(f"off {self.name}", self._off_aside)

    def _off_aside(self) -> None:
        host = self.host
        if host is not None:
            host.kill()
        with self._world.changed:
            self.host = None
            self._end()

    def _end(self) -> None:
        if self._delete_wanted:
            self._gone()
            return
        self.message.status = "TERMINATED"
        self.message.last_stop_timestamp = self._world.clock.stamp()

    def power_off(self) -> None:
        """What a shutdown on the machine does: TERMINATED, not gone. Nothing where it is not RUNNING."""
        if self.status == "RUNNING":
            self.stop(self._world.settings.stopping_seconds, delete=False)

    def finish(self) -> None:
        """Gone at once, as soon as its processes are dead."""
        self.stop(0.0, delete=True)

    def _gone(self) -> None:
        if self.gone_at is not None:
            return
        self.gone_at = self._world.clock.now()
        for timer in self._timers:
            timer.cancel()
        self.ended(self)
        actions, self._when_gone = self._when_gone, []
        for action in actions:
            action()
        self._world.changed.notify_all()

    def deadline(self) -> None:
        """The limit of its run time has come."""
        if self.status != "RUNNING":
            return
        self._action("deadline", self._world.settings.stopping_seconds)

    def preempt(self) -> None:
        """Taken back: a notice through metadata, STOPPING, and after 30 s it is off."""
        if self.status != "RUNNING" or self.preempted:
            return
        self.preempted = True
        notice = seconds_of(self.message.scheduling.preemption_notice_duration)
        self._world.changed.notify_all()
        if notice:
            self.later(notice, self._preempt_now)
        else:
            self._preempt_now()

    def _preempt_now(self) -> None:
        if self.status == "RUNNING":
            self._action("preempted", self._world.settings.preemption_seconds)

    def _action(self, why: str, seconds: float) -> None:
        delete = self.message.scheduling.instance_termination_action == "DELETE"
        self.taken(self, why)
        self.stop(seconds, delete=delete)

    taken: Callable[[Any, str], None] = staticmethod(lambda vm, why: None)
    """Called when the service itself takes it down: `deadline` or `preempted`."""
