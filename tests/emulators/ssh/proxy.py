"""A TCP proxy on loopback that can fall silent as a broken network does: nothing arrives, nothing is reset.

While it swallows, what is sent waits (as TCP keeps what is not acknowledged), in both directions and for new
connections too, and goes on when it lets through again, as after an outage that TCP outlived. With `forget` the
connections of that time stay silent for ever, as when the other end, or a firewall between, has lost them.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from types import TracebackType

_PIECE = 1 << 16


class SwallowingProxy:
    """Carries what comes to `port` on to `target` (host, port). Works from construction until `close`."""

    def __init__(self, target: tuple[str, int], *, address: str = "127.0.0.1") -> None:
        self.target = target
        self.carried = 0
        """Bytes that went through, both ways together."""
        self._open = threading.Condition()
        self._silent = False
        self._rate: float | None = None
        self._pairs: list[_Pair] = []
        self._listener = socket.create_server((address, 0), backlog=128)
        self.address, self.port = self._listener.getsockname()[:2]
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self, *, forget: bool = False) -> None:
        """From now on nothing arrives. With `forget` the connections that there are stay silent for ever."""
        with self._open:
            self._silent = True
            for pair in self._pairs:
                pair.forgotten |= forget

    def let_through(self) -> None:
        """The network is back: what waited arrives."""
        with self._open:
            self._silent = False
            self._open.notify_all()

    def throttle(self, rate: float | None) -> None:
        """Carry at most `rate` bytes a second in each direction of each connection; None: as fast as it can."""
        self._rate = rate

    def cut(self) -> None:
        """Reset every connection."""
        with self._open:
            pairs, self._pairs = self._pairs, []
            for pair in pairs:
                pair.reset()
            self._open.notify_all()

    def close(self) -> None:
        """Reset every connection and take no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def __enter__(self) -> SwallowingProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        pair = _Pair(client)
        with self._open:
            self._pairs.append(pair)
        if not self._passes(pair):
            return
        try:
            pair.server = socket.create_connection(self.target, timeout=10)
        except OSError:
            pair.reset()
            return
        pair.server.settimeout(None)
        for source, to in ((client, pair.server), (pair.server, client)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._carry, args=(pair, source, to), daemon=True).start()

    def _carry(self, pair: _Pair, source: socket.socket, to: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while self._passes(pair):
                piece = source.recv(_PIECE)
                if not self._passes(pair):
                    return
                if not piece:
                    to.shutdown(socket.SHUT_WR)
                    return
                to.sendall(piece)
                self.carried += len(piece)
                if self._rate:
                    time.sleep(len(piece) / self._rate)
            return
        pair.reset()  # one end is gone: the other hears of it

    def _passes(self, pair: _Pair) -> bool:
        """Wait while nothing gets through; False when the connection was cut meanwhile."""
        with self._open:
            while (self._silent or pair.forgotten) and not pair.over:
                self._open.wait()
        return not pair.over


class _Pair:
    """A connection: our end towards the client, and the one towards the target."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.server: socket.socket | None = None
        self.forgotten = False
        self.over = False

    def reset(self) -> None:
        """Close both ends so that the peers get a reset, not an orderly end."""
        self.over = True
        for one in (self.client, self.server):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RD)  # wakes the thread that reads from it
                one.close()
