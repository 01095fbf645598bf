"""The probe layer: a few optimiser steps on the run's machine against the same steps elsewhere.

    make(...)         the fixed batches, weights and values of a spec, made here once by a process of its own, cached
    for_run(...)      what is sent with a training by its spec's `parity` section
    plan_of(...)      what a run's record says is to be sent with its attempts
    probe_layer(...)  what two runs' probes say of each other; `probe_planned`: whether a run was to be probed
    read(folder)      the probe of a run folder; `compare` two of them, `table` to show it

Importing this imports neither torch, Ultralytics nor numpy.
"""

from launcher.parity.probing.layer import probe_layer, probe_planned
from launcher.parity.probing.making import Made, ProbeError, cached, for_run, key_of, make, plan_of
from launcher.parity.probing.record import read
from launcher.parity.probing.showing import table
from launcher.worker.probing.compare import compare

__all__ = [
    "Made", "ProbeError", "cached", "compare", "for_run", "key_of", "make", "plan_of", "probe_layer", "probe_planned",
    "read", "table",
]  # fmt: skip
