"""Which request means what: verb and path, Google's own request message for it, and the resource in its body."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from google.cloud import compute_v1 as c
from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]

from tests.emulators.compute.service.calls import Call
from tests.emulators.compute.settings import ApiError

PREFIX = "/compute/v1/projects/"


@dataclass(frozen=True)
class Route:
    """`path` below the project, with {variables}; `request` and `body` are messages of compute_v1."""

    method: str
    verb: str
    path: str
    request: Any
    body: Any = None

    @property
    def pattern(self) -> re.Pattern[str]:
        below = f"/{self.path}" if self.path else ""
        return re.compile(r"(?P<project>[^/]+)" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", below))


ROUTES = [
    Route("instances.insert", "POST", "zones/{zone}/instances", c.InsertInstanceRequest, c.Instance),
    Route("instances.list", "GET", "zones/{zone}/instances", c.ListInstancesRequest),
    Route("instances.get", "GET", "zones/{zone}/instances/{instance}", c.GetInstanceRequest),
    Route("instances.delete", "DELETE", "zones/{zone}/instances/{instance}", c.DeleteInstanceRequest),
    Route("instances.aggregatedList", "GET", "aggregated/instances", c.AggregatedListInstancesRequest),
    Route(
        "instances.getGuestAttributes",
        "GET",
        "zones/{zone}/instances/{instance}/getGuestAttributes",
        c.GetGuestAttributesInstanceRequest,
    ),
    Route(
        "instances.getSerialPortOutput",
        "GET",
        "zones/{zone}/instances/{instance}/serialPort",
        c.GetSerialPortOutputInstanceRequest,
    ),
    Route(
        "instances.setLabels",
        "POST",
        "zones/{zone}/instances/{instance}/setLabels",
        c.SetLabelsInstanceRequest,
        c.InstancesSetLabelsRequest,
    ),
    Route(
        "instances.setMetadata",
        "POST",
        "zones/{zone}/instances/{instance}/setMetadata",
        c.SetMetadataInstanceRequest,
        c.Metadata,
    ),
    Route("zoneOperations.get", "GET", "zones/{zone}/operations/{operation}", c.GetZoneOperationRequest),
    Route("zoneOperations.wait", "POST", "zones/{zone}/operations/{operation}/wait", c.WaitZoneOperationRequest),
    Route("zoneOperations.list", "GET", "zones/{zone}/operations", c.ListZoneOperationsRequest),
    Route("zoneOperations.delete", "DELETE", "zones/{zone}/operations/{operation}", c.DeleteZoneOperationRequest),
    Route("disks.list", "GET", "zones/{zone}/disks", c.ListDisksRequest),
    Route("disks.get", "GET", "zones/{zone}/disks/{disk}", c.GetDiskRequest),
    Route("disks.delete", "DELETE", "zones/{zone}/disks/{disk}", c.DeleteDiskRequest),
    Route("disks.aggregatedList", "GET", "aggregated/disks", c.AggregatedListDisksRequest),
    Route("regions.list", "GET", "regions", c.ListRegionsRequest),
    Route("regions.get", "GET", "regions/{region}", c.GetRegionRequest),
    Route("zones.list", "GET", "zones", c.ListZonesRequest),
    Route("zones.get", "GET", "zones/{zone}", c.GetZoneRequest),
    Route("machineTypes.list", "GET", "zones/{zone}/machineTypes", c.ListMachineTypesRequest),
    Route("machineTypes.get", "GET", "zones/{zone}/machineTypes/{machine_type}", c.GetMachineTypeRequest),
    Route("acceleratorTypes.list", "GET", "zones/{zone}/acceleratorTypes", c.ListAcceleratorTypesRequest),
    Route(
        "acceleratorTypes.get", "GET", "zones/{zone}/acceleratorTypes/{accelerator_type}", c.GetAcceleratorTypeRequest
    ),
    Route("images.getFromFamily", "GET", "global/images/family/{family}", c.GetFromFamilyImageRequest),
    Route("images.get", "GET", "global/images/{image}", c.GetImageRequest),
    Route("projects.get", "GET", "", c.GetProjectRequest),
]
_PATTERNS = [(route, route.pattern) for route in ROUTES]


def read(verb: str, path: str, query: str, body: bytes) -> Call:
    """The request as Google's messages. Raises ApiError: 400 for what they do not know, 501 for what is not here."""
    below = path.removeprefix(PREFIX) if path.startswith(PREFIX) else ""
    for route, pattern in _PATTERNS:
        match = pattern.fullmatch(below)
        if match is not None and route.verb == verb:
            values: dict[str, Any] = {name: unquote(value) for name, value in match.groupdict().items()}
            for name, value in parse_qsl(query, keep_blank_values=True):
                if not name.startswith("$"):
                    values[name] = {"true": True, "false": False}.get(value, value)
            resource = None if route.body is None else _parse(route.body, body)
            if route.body is None and body:
                raise ApiError(400, "parseError", f"{route.method} takes no body.")
            return Call(route.method, _parse(route.request, json.dumps(values).encode()), resource)
    raise ApiError(501, "notImplemented", f"{verb} {path} is not emulated")


def _parse(message: Any, text: bytes) -> Any:
    try:
        return message.from_json(text.decode() or "{}", ignore_unknown_fields=False)
    except (ParseError, UnicodeDecodeError) as error:
        raise ApiError(400, "invalid", f"Invalid JSON payload received. {error}") from error
