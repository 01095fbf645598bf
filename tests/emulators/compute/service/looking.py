"""What can be read of a machine from outside: guest attributes and the serial port."""

from __future__ import annotations

from google.cloud import compute_v1

from tests.emulators.compute.service.calls import Call
from tests.emulators.compute.service.vm import Vm
from tests.emulators.compute.settings import ApiError, Settings, not_found

MOST = 1 << 20
"""Bytes kept of the serial port: the last MiB, by the documentation of getSerialPortOutput."""


def guest_attributes(call: Call, vm: Vm, settings: Settings) -> compute_v1.GuestAttributes:
    """Raises ApiError: 404 where there is none, which is how a machine looks that has not got so far."""
    if vm.metadata.get("enable-guest-attributes", "").upper() != "TRUE":
        status = settings.guest_attributes_off_status
        raise ApiError(status, "conditionNotMet", "Guest attributes endpoint access is disabled.")
    wanted = call.request.variable_key or call.request.query_path
    if call.request.variable_key:
        if wanted not in vm.guest:
            raise not_found(wanted)
        return compute_v1.GuestAttributes(
            kind="compute#guestAttributes", variable_key=wanted, variable_value=vm.guest[wanted]
        )
    whole = wanted if wanted.endswith("/") or not wanted else f"{wanted}/"
    found = {key: value for key, value in vm.guest.items() if key == wanted or key.startswith(whole)}
    if not found:
        raise not_found(wanted)
    items = []
    for key, value in sorted(found.items()):
        namespace, _, name = key.partition("/")
        items.append(compute_v1.GuestAttributesEntry(namespace=namespace, key=name, value=value))
    return compute_v1.GuestAttributes(
        kind="compute#guestAttributes", query_path=wanted, query_value=compute_v1.GuestAttributesValue(items=items)
    )


def serial_port(call: Call, vm: Vm) -> compute_v1.SerialPortOutput:
    """What the machine's startup script has printed, from `start` on."""
    text = vm.host.serial() if vm.host is not None else ""
    first = max(len(text) - MOST, 0)
    start = max(int(call.request.start), first)
    return compute_v1.SerialPortOutput(
        kind="compute#serialPortOutput", contents=text[start:], start=start, next_=max(len(text), start)
    )
