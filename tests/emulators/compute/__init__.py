"""An honest loopback Compute Engine: Google's own client talks to it, and what it calls RUNNING really runs.

    from tests.emulators.compute import ComputeEmulator

    with ComputeEmulator(tmp_path / "gce", speed=60) as compute:
        compute.endpoint                                  # http://127.0.0.1:PORT, the clients' api_endpoint
        compute.client(compute_v1.InstancesClient)        # the real client, talking to it
        compute.faults.add("stockout", zone="us-central1-a", times=None)
        compute.clock(600); compute.clock(0); compute.clock.advance(3600)
        compute.instances["run-1-a1"]                     # .status .guest .host .preempt()
        compute.leftovers(), compute.bill(), compute.requests, compute.processes_alive

`python -m tests.emulators.compute`, from the repository's root, starts one for a person; `settings`, `faults` and
`wire.admin` say what can be set, also from another process. Requests are parsed, and replies made, with Google's own
messages (compute_v1): a field that they do not know is refused as at the real service.

An instance that is RUNNING is a real OpenSSH server on a loopback address of its own (127.x.y.z, Linux), with a home
folder of its own, host keys in guest attributes, a metadata server at GCE_METADATA_HOST, and its startup script as a
real process. When it is deleted, preempted or at its deadline, all its processes are killed, and its folder goes; when
the emulator ends, in whatever way, so do all machines. With `sshd=False` there are no processes at all.

What differs from the real service, and a client must be able to set: the SSH port is `compute.ssh_port`, not 22; the
user who logs in is `compute.ssh_user`, whichever user an `ssh-keys` entry names; the metadata server is at
GCE_METADATA_HOST, not at metadata.google.internal.

What it does not show, and no test on it can:

- A machine of its own: processes run as this user, with this machine's files, Python, CPU and no GPU. A startup script
  can write outside its home. Commands that manage a system (`systemctl`, `apt`, `shutdown`) are replaced in PATH only;
  it is no sandbox. A process that empties its environment and leaves its session is still found, on Linux, but not
  when the emulator itself is killed.
- IAM, networks, firewalls, IAP, OS Login beyond `oslogin_keys`, snapshots, stopped instances started again, regional
  disks, reservations, FLEX_START queues, billing by the second with minimums, real durations and capacities.
- How Google's servers behave where nobody could look: nothing here was checked against the real service. It comes from
  the client's own documentation, the sources of SkyPilot, dstack and Google's guest agent, and public threads; where
  these are silent, a choice was made and is a setting, or is called an assumption.
"""

from tests.emulators.compute.emulator import ComputeEmulator
from tests.emulators.compute.settings import Settings

__all__ = ["ComputeEmulator", "Settings"]
