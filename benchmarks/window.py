"""How much of the server's window one connection keeps in flight on a long link.

python window.py [--rtt MS] [--mib N]    needs root: it makes a network of its own, and a TUN device

The link is real TCP: packets that leave by the device come back by it after half the round trip,
with source and destination swapped. So what is sent to the far address reaches this host's own, as
if from afar. One snapshot is pushed to the sink, with the send buffer that pbs-push takes and
without, to a sink with the system's receive buffer and a large one.
"""

from __future__ import annotations

import argparse
import array
import fcntl
import json
import os
import random
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import sink as sink_module
from pbs_push.push.engine import push
from pbs_push.remote import tls_stream
from pbs_push.remote.connection import Connection
from pbs_push.remote.target import Target
from processes import Helper, Json, answer_questions
from sink import WINDOW, Sink
from sink_push import TOKEN, big_case

if TYPE_CHECKING:
    from collections.abc import Iterator

NEAR, FAR = "10.9.0.1", "10.9.0.2"
MTU: Final = 65_000
"""Large packets: the link is not to be what costs CPU."""
TUNSETIFF, IFF_TUN_NO_PI = 0x4004_54CA, 0x1001
SO_RCVBUFFORCE: Final = 33
SAMPLE_EVERY_S: Final = 0.01
FIRST_S: Final = 1.0
"""Of a connection, its packets are told one by one for so long."""
_LIMITS: Final = struct.Struct("=144xI20xQQQ")
"""Of Linux's ``struct tcp_info``: unsent bytes, and microseconds busy, limited by the receiver's
window, and limited by the send buffer."""


class Packet(NamedTuple):
    """A packet of TCP as it left: when, from which port, and what it carries."""

    at: float
    port: int
    size: int
    flags: int


class FarLink:
    """A device whose packets come back, swapped, after ``delay_s``; for the process's life.

    ``loss`` of them, 0 to 1, do not.
    """

    def __init__(self, delay_s: float, mtu: int = MTU, loss: float = 0.0) -> None:
        self._delay_s = delay_s
        self._loss = loss
        self._chance = random.Random(1)  # noqa: S311
        self._device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self._device, TUNSETIFF, struct.pack("16sH22x", b"far0", IFF_TUN_NO_PI))
        for command in (
            f"addr add {NEAR}/24 dev far0",
            f"link set far0 mtu {mtu} txqueuelen 20000 up",
            "link set lo up",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        self.packets: list[Packet] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        under_way: deque[tuple[float, bytes]] = deque()
        poll = select.poll()
        poll.register(self._device, select.POLLIN)
        while True:
            now = time.monotonic()
            while under_way and under_way[0][0] <= now:
                os.write(self._device, under_way.popleft()[1])
            rest_ms = (under_way[0][0] - now) * 1000 if under_way else 1000.0
            if not poll.poll(rest_ms):
                continue
            for packet in self._come():
                if self._loss and self._chance.random() < self._loss:
                    continue
                under_way.append((time.monotonic() + self._delay_s, packet))

    def _come(self) -> Iterator[bytes]:
        for _ in range(16):
            try:
                packet = os.read(self._device, MTU)
            except BlockingIOError:
                return
            if packet[0] >> 4 != 4:
                continue  # IPv6, of the kernel itself
            head = (packet[0] & 15) * 4
            body = head + (packet[head + 12] >> 4) * 4
            port = int.from_bytes(packet[head : head + 2], "big")
            if len(self.packets) < 100_000:
                self.packets.append(
                    Packet(time.monotonic(), port, len(packet) - body, packet[head + 13])
                )
            # Swapping leaves both checksums as they are.
            yield packet[:12] + packet[16:20] + packet[12:16] + packet[20:]


class FarSink(Sink):
    """A sink at the near address, whose sockets hold ``buffer`` bytes (0: as the system has it).

    It gives the window back at once. What a server keeps back of it cannot be in flight.
    """

    def __init__(self, buffer: int) -> None:
        sink_module.UPDATE_AFTER = 1 << 20  # type: ignore[misc]
        super().__init__("http2")
        self._listener.close()
        self._listener = socket.create_server((NEAR, 0))
        if buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
        self.port = self._listener.getsockname()[1]


class Sampler:
    """Looks at the sockets of TLS connections all the while that a push goes on."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._over = threading.Event()
        self.in_flight: list[tuple[float, int]] = []
        self.limits: tuple[int, int, int] = (0, 0, 0)
        self._thread = threading.Thread(target=self._run)
        self.credit_used: list[int] = []
        connect, send = tls_stream.TlsStream._connect, Connection._send

        def noted(stream: tls_stream.TlsStream, connection: socket.socket, address: Any) -> Any:
            made = connect(stream, connection, address)
            self._sockets.append(made)
            return made

        def counted(one: Connection, wake_fd: int) -> Any:
            wait = send(one, wake_fd)
            self.credit_used.append(WINDOW - one.transport.state().send_window)
            return wait

        tls_stream.TlsStream._connect = noted  # type: ignore[method-assign]
        Connection._send = counted  # type: ignore[method-assign]
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_EVERY_S):
            for one in self._sockets:
                try:
                    self._look(one)
                except OSError:  # closed
                    continue

    def _look(self, one: socket.socket) -> None:
        queued = array.array("i", [0])
        info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LIMITS.size)
        fcntl.ioctl(one, termios.TIOCOUTQ, queued)
        unsent, *limits = _LIMITS.unpack(info)
        self.in_flight.append((time.monotonic(), queued[0] - unsent))
        self.limits = (limits[0], limits[1], limits[2])

    def end(self) -> None:
        """Stop looking."""
        self._over.set()
        self._thread.join()


def measure(rtt_ms: float, mib: int, widened: int, receive: int) -> Json:
    """Push ``mib`` MiB over a link in this process's network.

    ``widened``: with the send buffer that pbs-push takes; ``receive``: the sink's, 0 for the
    system's.
    """
    if not widened:
        tls_stream._widen = lambda _connection: None
    link = FarLink(rtt_ms / 2000)
    with (
        tempfile.TemporaryDirectory() as directory,
        Helper("window.py", "--as-sink", receive) as sink,
    ):
        source = Path(directory) / "source"
        case = big_case(source, mib)
        sampler = Sampler()
        began = time.monotonic()
        repository = f"{TOKEN}@{FAR}:{sink.facts['port']}:sink"
        with Target(repository, "secret", bytes.fromhex(sink.facts["fingerprint"])) as target:
            report = push(source, target)
        took = time.monotonic() - began
        sampler.end()
    if report.exit_status:
        raise RuntimeError(f"the push failed: {report.counts} {report.problems}")
    found = sampler.in_flight
    most = max(amount for _, amount in found)
    first = next(at for at, amount in found if amount)
    full_at = next(at for at, amount in found if amount >= 0.9 * most)
    last = max(at for at, amount in found if amount >= 1 << 20)
    busy, by_receiver, by_buffer = sampler.limits
    return {
        "mib_per_s": case.encoded_bytes / took / 2**20,
        "median": statistics.median(amount for at, amount in found if full_at <= at <= last),
        "most": most,
        "credit": statistics.median(sampler.credit_used[len(sampler.credit_used) // 2 :]),
        "full_after_s": full_at - first,
        "by_receiver": by_receiver / max(busy, 1),
        "by_buffer": by_buffer / max(busy, 1),
        "packets": first_packets(link.packets),
    }


def first_packets(packets: list[Packet]) -> list[str]:
    """The connection that carried most, packet by packet, with the pauses between them."""
    carried: dict[int, int] = {}
    for packet in packets:
        carried[packet.port] = carried.get(packet.port, 0) + packet.size
    # Ours and the sink's port: the sink's is that of all connections.
    ours = max(carried, key=carried.__getitem__)
    began = next(packet.at for packet in packets if packet.port == ours)
    return [
        f"{(packet.at - began) * 1000:7.1f} ms  {packet.size:6d} bytes  flags {packet.flags:02x}"
        for packet in packets
        if packet.port == ours and packet.at - began < FIRST_S
    ]


CASES: Final = (
    ("the system's | the system's", 0, 0),
    ("ours | the system's", 1, 0),
    ("the system's | 128 MiB", 0, 128 << 20),
    ("ours | 128 MiB", 1, 128 << 20),
)


def main() -> int:
    """Measure each case in a network of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rtt", type=float, default=100.0, metavar="MS")
    parser.add_argument("--mib", type=int, default=1024, metavar="N")
    parser.add_argument("--packets", action="store_true", help="of the first case, one by one")
    parser.add_argument("--as-sink", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.as_sink is not None:
        sink = FarSink(args.as_sink)
        sink.start()
        answer_questions({"port": sink.port, "fingerprint": sink.fingerprint.hex()}, sink.counts)
        return 0
    if args.one is not None:
        print(json.dumps(measure(args.rtt, args.mib, *args.one)))
        return 0
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        print("needs root and /dev/net/tun: it makes a network of its own", file=sys.stderr)
        return 1
    print(
        "| sends with | receives with | MiB/s | in flight, MiB: median, most "
        "| of the window: by TCP, by HTTP/2 "
        "| full after s | held up by receiver, by send buffer |"
    )
    print("| --- | --- | ---: | --- | ---: | ---: | --- |")
    for number, (name, widened, receive) in enumerate(CASES):
        command = ["unshare", "-n", sys.executable, __file__, "--rtt", str(args.rtt)]
        command += ["--mib", str(args.mib), "--one", str(widened), str(receive)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}: {done.stderr}", file=sys.stderr)
            return 1
        found = json.loads(done.stdout)
        print(
            f"| {name} | {found['mib_per_s']:.0f} | {found['median'] / 2**20:.1f}, "
            f"{found['most'] / 2**20:.1f} | {found['median'] / WINDOW:.0%}, "
            f"{found['credit'] / WINDOW:.0%} | "
            f"{found['full_after_s']:.1f} | "
            f"{found['by_receiver']:.0%}, {found['by_buffer']:.0%} |",
            flush=True,
        )
        if args.packets and not number:
            print(*found["packets"], sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
