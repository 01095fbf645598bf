"""The connection to a machine by SSH: who it is (`Where`), commands and streams (`Link`), trees of files (`tree`).

Promises: no call outlasts its limit, whatever the network does; nothing is sent to a host whose key is not known; each
word of a command arrives as it was given; an exit code is the command's own. paramiko and fabric are imported when the
first connection is made.
"""

from backends.ssh.link.link import Done, Link
from backends.ssh.link.where import Where

__all__ = ["Done", "Link", "Where"]
