"""Messages to systemd: how far a program is, and that it still lives.

They are datagrams to the socket that NOTIFY_SOCKET names (``man sd_notify``). Without that variable
nothing is sent. Only the main process of a service may send them.
"""

from __future__ import annotations

import os
import socket
import time

READY = "READY=1"
STOPPING = "STOPPING=1"


class ServiceManager:
    """The systemd that started this process, if it was one."""

    def __init__(self) -> None:
        """Read the variables, and take them from the environment of the programs that we start."""
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        self._microseconds = os.environ.pop("WATCHDOG_USEC", "")
        self._watched = os.environ.pop("WATCHDOG_PID", "")

    def variables(self) -> dict[str, str]:
        """The variables, for a program that takes the place of this one."""
        found = {
            "NOTIFY_SOCKET": self._address,
            "WATCHDOG_USEC": self._microseconds,
            "WATCHDOG_PID": self._watched,
        }
        return {name: value for name, value in found.items() if value}

    def send(self, *lines: str) -> None:
        """Send the lines, such as ``READY``. It never fails: the program's own work goes first."""
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):  # an abstract socket
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_systemd:
                to_systemd.setblocking(False)
                to_systemd.sendto("\n".join(lines).encode(), address)
        except OSError:
            return

    def send_reloading(self) -> None:
        """Say that a reload has begun. ``READY`` ends it."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def send_alive(self) -> None:
        """Say that we live, if systemd wants to hear it."""
        if self.seconds_between_pings():
            self.send("WATCHDOG=1")

    def seconds_between_pings(self) -> float | None:
        """How often ``send_alive`` is to be called; None if nobody waits for it."""
        if self._watched not in ("", str(os.getpid())) or not self._microseconds.isdecimal():
            return None
        return int(self._microseconds) / 2_000_000 or None
