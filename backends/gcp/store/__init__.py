"""Cloud Storage as the place where runs meet their machines: neither has to be awake when the other is.

The launcher stages datasets and inputs and reads what was carried (`Store`, `Outbox`); on the machine a carrier
(`carrier/`, packed as carrier.pyz) brings the inputs and carries the box's outputs. `carrier.names` says what lies
where.
"""

from backends.gcp.store.outbox import Outbox, Outcome
from backends.gcp.store.packing import CARRIER, carrier_bytes
from backends.gcp.store.staging import data_shards
from backends.gcp.store.store import Latest, Store

__all__ = ["CARRIER", "Latest", "Outbox", "Outcome", "Store", "carrier_bytes", "data_shards"]
