"""What machines cost, by a table with a date. It is a list price: no discounts, traffic, storage requests or taxes."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TABLE = Path(__file__).with_name("prices.json")
HOURS_A_MONTH = 730  # Google's own for prices by the month


@dataclass(frozen=True)
class Price:
    """US dollars an hour."""

    machine: float
    gpu: float
    disk: float
    address: float

    @property
    def hour(self) -> float:
        """Altogether."""
        return self.machine + self.gpu + self.disk + self.address


def price(machine: str, accelerator: str, region: str, *, spot: bool, disk_gb: int, external_ip: bool) -> Price | None:
    """The price in a region; None when the table does not have it."""
    table, which = _table(), 1 if spot else 0
    kind = table["machines"].get(machine, {}).get(region)
    month = table["disk_gb_month"].get(region)
    gpu = table["gpus"].get(accelerator, [None, None])[which] if accelerator else 0.0
    if not kind or kind[which] is None or month is None or gpu is None:
        return None
    address = table["address"][which] if external_ip else 0.0
    return Price(kind[which], gpu, disk_gb * month / HOURS_A_MONTH, address)


def basis() -> str:
    """Where the prices are from, and of which day."""
    table = _table()
    return f"list prices of {table['date']} ({table['source'].partition(',')[0]})"


def date() -> str:
    """Of the table."""
    return str(_table()["date"])


def regions(machine: str) -> list[str]:
    """Regions for which there is a price."""
    return sorted(_table()["machines"].get(machine, {}))


@functools.cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(_TABLE.read_bytes())
    return table
