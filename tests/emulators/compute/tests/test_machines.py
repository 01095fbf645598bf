"""What is RUNNING really runs: sshd, metadata, the startup script; and nothing of it outlives its instance."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import NotFound, PreconditionFailed
from google.cloud import compute_v1

from tests.emulators.compute import ComputeEmulator
from tests.emulators.compute.tests.cloud import ZONE, Cloud, instance, limited, nobody, spot
from tests.emulators.ssh import need_sshd

ROOT = Path(__file__).parents[4]
ASK = (
    "import os,urllib.request as u;"
    "print(u.urlopen(u.Request('http://'+os.environ['GCE_METADATA_HOST']+'/computeMetadata/v1/'+{!r},"
    "headers={{'Metadata-Flavor':'Google'}})).read().decode())"
)


def until(test: Callable[[], Any], seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := test()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return found


class Shell:
    """Somebody with a key who logs in where the API says, with the host key that the API says."""

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self.cloud, self.folder, self.key = cloud, folder, folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me", "-f", self.key], check=True)
        self.public = self.key.with_suffix(".pub").read_text().strip()

    @property
    def metadata(self) -> dict[str, str]:
        return {"ssh-keys": f"samerun:{self.public}", "enable-guest-attributes": "TRUE"}

    def host_keys(self, name: str = "run-1-a1") -> str:
        request = compute_v1.GetGuestAttributesInstanceRequest(
            project=self.cloud.project, zone=ZONE, instance=name, query_path="hostkeys/"
        )
        try:
            found = self.cloud.instances.get_guest_attributes(request, retry=None)
        except NotFound:
            return ""
        return "".join(f"{one.key} {one.value}\n" for one in found.query_value.items)

    def run(self, command: str, name: str = "run-1-a1", host_key: str = "") -> subprocess.CompletedProcess[str]:
        address = self.cloud.get(name).network_interfaces[0].access_configs[0].nat_i_p
        port = self.cloud.compute.ssh_port
        known = self.folder / "known"
        known.write_text(f"[{address}]:{port} {host_key or until(lambda: self.host_keys(name))}")
        options = [f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes", "BatchMode=yes", "IdentitiesOnly=yes"]
        argv = ["ssh", "-F", "none", "-i", str(self.key), "-p", str(port), *(f"-o{option}" for option in options)]
        target = f"{self.cloud.compute.ssh_user}@{address}"
        return subprocess.run([*argv, target, command], capture_output=True, text=True, timeout=20, check=False)

    def ask(self, path: str) -> str:
        done = self.run(f"{shlex.quote(sys.executable)} -c {shlex.quote(ASK.format(path))}")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def far(machines: ComputeEmulator) -> Cloud:
    return Cloud(machines)


@pytest.fixture
def shell(far: Cloud, tmp_path: Path) -> Shell:
    return Shell(far, tmp_path)


def test_one_logs_in_with_the_key_in_metadata_and_the_host_key_in_guest_attributes(shell: Shell) -> None:
    shell.cloud.up(instance(metadata=shell.metadata))
    done = shell.run("pwd; echo $HOME")
    assert done.returncode == 0, done.stderr
    home = str(shell.cloud.compute.instances["run-1-a1"].host.home)  # type: ignore[union-attr]
    assert done.stdout.split() == [home, home]
    other = shell.run(
        "true", host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO5/U0bcAmE2P498Mx7/lAnQCRdhBWBUYoy372gRpffC"
    )
    assert "HOST IDENTIFICATION HAS CHANGED" in other.stderr


def test_nobody_else_logs_in_and_with_os_login_keys_in_metadata_do_not_count(shell: Shell) -> None:
    shell.cloud.up(instance("no-key", metadata={"enable-guest-attributes": "TRUE"}))
    assert "Permission denied" in shell.run("true", "no-key").stderr
    shell.cloud.up(instance("oslogin", metadata={**shell.metadata, "enable-oslogin": "TRUE"}))
    assert "Permission denied" in shell.run("true", "oslogin").stderr
    shell.cloud.delete("oslogin")
    shell.cloud.compute.settings.oslogin_keys = [shell.public]
    shell.cloud.up(instance("oslogin-2", metadata={**shell.metadata, "enable-oslogin": "TRUE"}))
    assert shell.run("true", "oslogin-2").returncode == 0


def test_a_key_of_the_project_counts_unless_it_is_blocked(shell: Shell) -> None:
    shell.cloud.compute.settings.project_metadata = {"ssh-keys": f"me:{shell.public}"}
    shell.cloud.up(instance("open", metadata={"enable-guest-attributes": "TRUE"}))
    assert shell.run("true", "open").returncode == 0
    metadata = {"enable-guest-attributes": "TRUE", "block-project-ssh-keys": "TRUE"}
    shell.cloud.up(instance("closed", metadata=metadata))
    assert "Permission denied" in shell.run("true", "closed").stderr


def test_guest_attributes_are_late_never_or_not_allowed(machines: ComputeEmulator, shell: Shell) -> None:
    machines.clock(20)
    machines.faults.add("late-guest-attributes", seconds=20)
    shell.cloud.up(instance("late", metadata=shell.metadata))
    began = time.monotonic()
    until(lambda: shell.host_keys("late"))
    assert time.monotonic() - began > 0.5
    shell.cloud.up(instance("off", metadata={}))
    with pytest.raises(PreconditionFailed, match="disabled"):
        shell.host_keys("off")


def test_two_machines_have_two_addresses_and_two_homes(shell: Shell) -> None:
    for name in ("one", "two"):
        shell.cloud.up(instance(name, metadata=shell.metadata))
    homes = {shell.run("pwd", name).stdout for name in ("one", "two")}
    addresses = {shell.cloud.get(name).network_interfaces[0].network_i_p for name in ("one", "two")}
    assert (len(homes), len(addresses)) == (2, 2)


def test_the_machine_knows_itself_through_its_metadata_server(machines: ComputeEmulator, shell: Shell) -> None:
    account = compute_v1.ServiceAccount(email="vm@x.iam", scopes=["https://www.googleapis.com/auth/cloud-platform"])
    seen = shell.cloud.up(instance(metadata={**shell.metadata, "run": "r 1"}, service_accounts=[account]))
    assert shell.ask("instance/name") == "run-1-a1"
    assert shell.ask("instance/id") == str(seen.id)
    assert shell.ask("instance/zone").endswith(f"/zones/{ZONE}")
    assert shell.ask("project/project-id") == machines.project
    assert shell.ask("instance/attributes/run") == "r 1"
    assert "ssh-keys" in shell.ask("instance/attributes/").split()
    assert shell.ask("instance/preempted") == "FALSE"
    token = json.loads(shell.ask("instance/service-accounts/default/token"))["access_token"]
    machines.tokens.check(f"Bearer {token}")


def test_googles_own_library_gets_credentials_on_the_machine(machines: ComputeEmulator, shell: Shell) -> None:
    account = compute_v1.ServiceAccount(email="vm@x.iam", scopes=["a"])
    shell.cloud.up(instance(metadata=shell.metadata, service_accounts=[account]))
    program = (
        "import google.auth, google.auth.transport.requests as t; c, p = google.auth.default(); "
        "c.refresh(t.Request()); print(p, c.service_account_email, c.token)"
    )
    done = shell.run(f"{shlex.quote(sys.executable)} -W ignore -c {shlex.quote(program)}")
    project, email, token = done.stdout.split() or [done.stderr, "", ""]
    assert (project, email) == (machines.project, "vm@x.iam")
    machines.tokens.check(f"Bearer {token}")


def test_the_server_refuses_who_does_not_name_the_flavour(shell: Shell) -> None:
    shell.cloud.up(instance(metadata=shell.metadata))
    program = ASK.format("instance/name").replace("Metadata-Flavor", "X")
    done = shell.run(f"{shlex.quote(sys.executable)} -c {shlex.quote(program)}")
    assert "403" in done.stderr


def test_a_guest_attribute_is_put_by_the_machine_and_read_by_the_api(shell: Shell) -> None:
    script = (
        f'exec {shlex.quote(sys.executable)} -c "import os,urllib.request as u;'
        "u.urlopen(u.Request('http://'+os.environ['GCE_METADATA_HOST']+"
        "'/computeMetadata/v1/instance/guest-attributes/launcher/ready',data=b'yes',method='PUT',"
        "headers={'Metadata-Flavor':'Google'}))\""
    )
    shell.cloud.up(instance(metadata={**shell.metadata, "startup-script": script}))
    guest = shell.cloud.compute.instances["run-1-a1"].guest
    assert until(lambda: guest.get("launcher/ready")) == "yes"
    request = compute_v1.GetGuestAttributesInstanceRequest(
        project=shell.cloud.project, zone=ZONE, instance="run-1-a1", variable_key="launcher/ready"
    )
    assert shell.cloud.instances.get_guest_attributes(request).variable_value == "yes"


def test_the_startup_script_runs_and_the_serial_port_says_what_it_printed(
    machines: ComputeEmulator, far: Cloud
) -> None:
    machines.settings.environment["STORAGE_EMULATOR_HOST"] = "http://127.0.0.1:1"
    far.up(instance(metadata={"startup-script": "#!/bin/sh\necho at $STORAGE_EMULATOR_HOST in $PWD\nexit 3"}))

    def serial(start: int = 0) -> str:
        request = compute_v1.GetSerialPortOutputInstanceRequest(
            project=far.project, zone=ZONE, instance="run-1-a1", start=start
        )
        return str(far.instances.get_serial_port_output(request).contents)

    text = until(lambda: serial() if "exit status" in serial() else "")
    host = machines.instances["run-1-a1"].host
    assert host is not None
    assert text == f"at http://127.0.0.1:1 in {host.home}\nstartup-script exit status 3\n"
    assert serial(3) == text[3:]


HIDE = """
exec >/dev/null 2>&1 </dev/null
sleep {0} &
(setsid sleep {0} &)
env -i setsid sleep {0} &
nohup sh -c 'trap "" TERM HUP INT; sleep {0}; sleep {0}' &
"""
HIDDEN = 5
"""Processes of the above with the number in their command line."""


def sleepers(number: int) -> set[int]:
    found = set()
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if f"sleep {number}" in line and "env" not in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.add(process.pid)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
@pytest.mark.parametrize("end", ["delete", "deadline", "preempt", "close"])
def test_nothing_outlives_its_instance_however_it_hides(tmp_path: Path, end: str) -> None:
    number = random.randrange(10**6, 10**9)
    hide = HIDE.format(number)
    with ComputeEmulator(tmp_path / "gce", preemption_seconds=0.2) as compute:
        shell = Shell(Cloud(compute), tmp_path)
        scheduling = spot(max_run_duration=compute_v1.Duration(seconds=600))
        shell.cloud.up(instance(metadata={**shell.metadata, "startup-script": hide}, scheduling=scheduling))
        done = shell.run(hide)
        assert done.returncode == 0, done.stderr
        until(lambda: len(sleepers(number)) == 2 * HIDDEN)
        host = compute.instances["run-1-a1"].host
        assert host is not None
        if end == "delete":
            shell.cloud.wait(shell.cloud.delete())
        elif end == "deadline":
            compute.clock.advance(601)
        elif end == "preempt":
            compute.preempt("run-1-a1")
            until(lambda: not compute.leftovers())
        else:
            compute.close()
        assert sleepers(number) == set()
        assert not host.home.exists()
    assert compute.processes_alive == 0


def test_preemption_is_noticed_on_the_machine_before_it_ends(tmp_path: Path) -> None:
    with ComputeEmulator(tmp_path / "gce", preemption_seconds=1.5, soft_off=False) as compute:
        script = ASK.format("instance/preempted?wait_for_change=true")
        metadata = {"startup-script": f"{shlex.quote(sys.executable)} -c {shlex.quote(script)}; sleep 100"}
        Cloud(compute).up(instance(metadata=metadata, scheduling=spot()))
        vm = compute.instances["run-1-a1"]
        until(lambda: vm.host is not None)
        host = vm.host
        assert host is not None
        time.sleep(0.3)
        assert host.serial() == ""
        compute.preempt("run-1-a1")
        until(lambda: host.serial().startswith("TRUE"))
        assert vm.status == "STOPPING"
        until(lambda: not compute.leftovers())


def test_a_machine_that_stops_gets_sigterm_first(tmp_path: Path) -> None:
    with ComputeEmulator(tmp_path / "gce", stopping_seconds=0.5) as compute:
        mark = tmp_path / "told"
        script = f"trap 'echo told > {mark}; exit 0' TERM\necho ready\nwhile :; do sleep 0.02; done"
        cloud = Cloud(compute)
        cloud.up(instance(metadata={"startup-script": script}))
        vm = compute.instances["run-1-a1"]
        until(lambda: vm.host is not None and "ready" in vm.host.serial())
        cloud.wait(cloud.delete())
        assert mark.read_text() == "told\n"


def test_shutdown_on_the_machine_stops_the_instance_and_nothing_here(shell: Shell) -> None:
    shell.cloud.up(instance(metadata=shell.metadata))
    assert shell.run("systemctl stop nothing").returncode == 5
    shell.run("sudo -n shutdown -h now")
    until(lambda: shell.cloud.get().status == "TERMINATED")
    assert shell.cloud.compute.processes_alive == 0


def test_a_machine_deleted_while_it_boots_is_dead_all_the_same(machines: ComputeEmulator, far: Cloud) -> None:
    far.wait(far.insert())
    far.wait(far.delete())
    assert machines.leftovers() == []
    assert machines.processes_alive == 0
    assert not list((machines.world.root / "machines" / ZONE).iterdir())


def test_one_that_does_not_boot_is_running_and_silent(machines: ComputeEmulator, shell: Shell) -> None:
    machines.faults.add("no-boot")
    shell.cloud.up(instance(metadata=shell.metadata))
    done = shell.run("true", host_key="ssh-ed25519 AAAA")
    assert (shell.cloud.get().status, done.returncode) == ("RUNNING", 255)
    assert "refused" in done.stderr


def test_machines_end_with_an_emulator_that_is_killed(tmp_path: Path) -> None:
    need_sshd()
    argv = [sys.executable, "-m", "tests.emulators.compute", "--root", str(tmp_path / "gce")]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    endpoint = process.stdout.readline().split("=", 1)[1].strip()
    client = compute_v1.InstancesClient(credentials=nobody(), client_options=ClientOptions(api_endpoint=endpoint))
    wanted = instance(metadata={"startup-script": "sleep 86399", "enable-guest-attributes": "TRUE"})
    client.insert_unary(project="samerun-test", zone=ZONE, instance_resource=wanted)
    root = str(tmp_path / "gce")

    def alive() -> list[psutil.Process]:
        found = []
        for one in psutil.process_iter():
            try:
                if one.pid != process.pid and one.status() != psutil.STATUS_ZOMBIE:
                    text = " ".join(one.cmdline())
                    found += [one] if root in text or ("sleep 86399" in text and root in one.cwd()) else []
            except (psutil.Error, OSError):
                continue
        return found

    until(lambda: any("sshd" in one.name() for one in alive()))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until(lambda: not alive())


def test_a_person_can_start_one_and_end_it(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.emulators.compute", "--no-sshd", "--set", "speed=60", "--root", str(tmp_path)]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    endpoint = process.stdout.readline().split("=", 1)[1].strip()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    settings = json.load(opener.open(f"{endpoint}/_emulator/settings"))
    assert (settings["sshd"], settings["speed"]) == (False, 60)
    process.terminate()
    assert process.wait(10) == 0


def test_a_deadline_really_ends_a_machine_by_the_clock(tmp_path: Path) -> None:
    with ComputeEmulator(tmp_path / "gce", speed=40) as compute:
        cloud = Cloud(compute)
        cloud.up(instance(scheduling=limited(30), metadata={"startup-script": "sleep 1000"}))
        until(lambda: compute.processes_alive)
        until(lambda: not compute.leftovers())
        assert compute.processes_alive == 0
        assert compute.bill()[0].hours * 3600 < 60
