"""The whole of the emulated Compute Engine: its parts put together, started and stopped."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1

from tests.emulators.compute.clock import Clock
from tests.emulators.compute.faults import Faults
from tests.emulators.compute.machine.yard import Yard
from tests.emulators.compute.service.calls import Call, page
from tests.emulators.compute.service.catalogue import Catalogue
from tests.emulators.compute.service.disks import Disks
from tests.emulators.compute.service.instances import Bill, Instances
from tests.emulators.compute.service.looking import guest_attributes, serial_port
from tests.emulators.compute.service.operations import Operations
from tests.emulators.compute.settings import Settings, World, not_found
from tests.emulators.compute.wire.server import Request, Server
from tests.emulators.compute.wire.tokens import Tokens


class ComputeEmulator:
    """A Compute Engine on a loopback port. See the package's docstring.

    `root` is where everything lies (default: a new folder); `options` are fields of `Settings`.
    """

    def __init__(self, root: Path | None = None, *, port: int = 0, **options: Any) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="gce-") if root is None else None
        folder = Path(self._temporary.name) if self._temporary is not None else Path(root or ".")
        folder.mkdir(parents=True, exist_ok=True)
        self._port = port
        self._server: Server | None = None
        self.settings = Settings()
        self.settings.change(options)
        self.world = World(folder.resolve(), self.settings)
        self.clock: Clock = self.world.clock
        self.faults = Faults()
        self.tokens = Tokens(self.settings)
        self.catalogue = Catalogue(self.world)
        self.operations = Operations(self.world)
        self.disks = Disks(self.world, self.operations, self.catalogue)
        self.instances = Instances(self.world, self.faults, self.operations, self.disks, self.catalogue)
        self.yard = Yard(self.world, self.tokens, self.faults)
        self.instances.boot, self.instances.address = self.yard.make, self.yard.address
        self._requests: list[Request] = []
        self._lock = threading.Lock()
        self._calls = self._table()

    def _table(self) -> dict[str, Callable[[Call], Any]]:
        instances, operations, disks, catalogue = self.instances, self.operations, self.disks, self.catalogue
        return {
            "instances.insert": instances.insert,
            "instances.get": instances.get,
            "instances.list": instances.listing,
            "instances.aggregatedList": instances.aggregated_list,
            "instances.delete": instances.delete,
            "instances.setLabels": instances.set_labels,
            "instances.setMetadata": instances.set_metadata,
            "instances.getGuestAttributes": lambda call: guest_attributes(call, instances.find(call), self.settings),
            "instances.getSerialPortOutput": lambda call: serial_port(call, instances.find(call)),
            "zoneOperations.get": operations.get,
            "zoneOperations.wait": operations.wait,
            "zoneOperations.list": operations.listing,
            "zoneOperations.delete": operations.delete,
            "disks.get": disks.get,
            "disks.list": disks.listing,
            "disks.aggregatedList": disks.aggregated_list,
            "disks.delete": disks.delete,
            "regions.get": self._region,
            "regions.list": self._regions,
            "zones.get": catalogue.get_zone,
            "zones.list": catalogue.list_zones,
            "machineTypes.get": catalogue.get_machine_type,
            "machineTypes.list": catalogue.list_machine_types,
            "acceleratorTypes.get": catalogue.get_accelerator_type,
            "acceleratorTypes.list": catalogue.list_accelerator_types,
            "images.get": catalogue.get_image,
            "images.getFromFamily": catalogue.get_image_from_family,
            "projects.get": lambda call: catalogue.project_message(instances.usage()),
        }

    def start(self) -> Self:
        self.yard.open()
        self._server = Server(self, self._port)
        self.world.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.clock.start()
        self._server.start()
        return self

    def close(self) -> None:
        """Switch every machine off and stop answering. Raises RuntimeError where a machine could not be booted."""
        self.world.closing.set()
        with self.world.changed:
            self.world.changed.notify_all()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self.clock.stop()
        self.world.settle()
        for vm in self.instances:
            if vm.host is not None:
                vm.host.kill()
        self.yard.close()
        if self._temporary is not None:
            self._temporary.cleanup()
        errors = [vm.error for vm in self.instances.ever if vm.error is not None]
        if errors:
            raise RuntimeError(f"a machine did not boot: {errors[0]!r}") from errors[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def endpoint(self) -> str:
        """`http://127.0.0.1:PORT`: the `api_endpoint` of the clients."""
        return self.world.endpoint

    @property
    def project(self) -> str:
        return self.settings.project

    @property
    def ssh_port(self) -> int:
        """The port at which every machine listens, at the address that its network interface names; 0 where each has
        its own (`own_addresses=False`): then `instances[name].host.port`."""
        return self.yard.ssh_port

    @property
    def ssh_user(self) -> str:
        """Who may log in, whatever user an `ssh-keys` entry names: the user who runs this emulator."""
        return self.yard.user

    def client(self, kind: Any) -> Any:
        """One of Google's clients (`compute_v1.InstancesClient`), talking to this emulator without credentials."""
        nobody = AnonymousCredentials()  # type: ignore[no-untyped-call]
        return kind(credentials=nobody, client_options=ClientOptions(api_endpoint=self.endpoint))

    def call(self, call: Call) -> Any:
        """The reply to one request, as a message. Raises ApiError."""
        if call.request.project != self.project and not call.method.startswith("images."):
            raise not_found(f"projects/{call.request.project}")
        return self._calls[call.method](call)

    def log(self, request: Request) -> None:
        with self._lock:
            self._requests.append(request)

    @property
    def requests(self) -> list[Request]:
        """All requests so far, in the order in which they were answered."""
        with self._lock:
            return list(self._requests)

    def count(self, method: str) -> int:
        return sum(request.method == method for request in self.requests)

    def leftovers(self) -> list[str]:
        """What exists and costs money: `instance ZONE/NAME STATUS`, `disk ZONE/NAME`."""
        with self.world.changed:
            machines = [f"instance {vm.zone}/{vm.name} {vm.status}" for vm in self.instances]
            return machines + [f"disk {zone}/{name}" for zone, name in self.disks.all]

    def bill(self) -> list[Bill]:
        """Machine hours of every instance, on the emulator's clock."""
        with self.world.changed:
            return self.instances.bill()

    def preempt(self, name: str) -> None:
        """Take the instance back now, Spot or not. Raises KeyError."""
        with self.world.changed:
            self.instances[name].preempt()

    def power_off(self, name: str) -> None:
        """As `shutdown` inside does: the instance ends up TERMINATED, and its disks are billed on. Raises KeyError."""
        with self.world.changed:
            self.instances[name].power_off()

    @property
    def processes_alive(self) -> int:
        """Processes of all machines that are alive now."""
        return len(self.yard.processes())

    def _region(self, call: Call) -> compute_v1.Region:
        if call.request.region not in self.catalogue.regions:
            raise not_found(f"projects/{self.project}/regions/{call.request.region}")
        return self.catalogue.region_message(call.request.region, self.instances.usage())

    def _regions(self, call: Call) -> compute_v1.RegionList:
        usage = self.instances.usage()
        items = [(region, self.catalogue.region_message(region, usage)) for region in self.catalogue.regions]
        shown, token = page(call, items, self.settings.page_limit)
        return compute_v1.RegionList(kind="compute#regionList", items=[one for _, one in shown], next_page_token=token)
