"""A machine to reach by SSH, and a network that goes silent: real OpenSSH on loopback behind a proxy that swallows.

What this does not show: an account of another user, PAM, SELinux, other servers than OpenSSH, packets that are lost
at random, and hosts that do not even answer a SYN (the kernel takes up a connection, which then hears nothing).
"""

from tests.emulators.ssh.proxy import SwallowingProxy
from tests.emulators.ssh.server import Sshd, need_sshd

__all__ = ["Sshd", "SwallowingProxy", "need_sshd"]
