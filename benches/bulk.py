#!/usr/bin/env python3
"""Memory of pgdrover while much passes through it: large results, large rows, large COPY.

    pgdrover demo --shards 1 --replicas 0 --port 0 --no-data -- \\
        benches/bulk.py --pgdrover target/release/pgdrover

Each case starts a pgdrover, takes the resident memory that it has at rest after a first statement,
moves the bulk, and takes the highest that it ever had (VmHWM). It fails if a case adds more than
--limit MiB to the memory at rest, or if not every byte and row arrives. TLS is off.

Needs what pgbench.py needs but pgbench; the server needs 3 GB of memory for the largest row and
600 MB of disk for the rows that are copied in.
"""

import argparse
import os
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

from memory import TrustingPgdrover
from pgbench import Failure, Server, tell

MB = 1_000_000
CHUNK = 256 << 10
SETUP = """
DROP TABLE IF EXISTS bulk;
CREATE UNLOGGED TABLE bulk (line text);
CREATE OR REPLACE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END $$;
CREATE OR REPLACE TRIGGER dawdle BEFORE INSERT ON bulk FOR EACH ROW
    WHEN (NEW.line LIKE 'slow%') EXECUTE FUNCTION dawdle();
"""


class Client:
    """A client that holds no more of an answer than a chunk."""

    def __init__(self, proxy):
        self.socket = socket.create_connection(("127.0.0.1", proxy.port), timeout=120)
        self.buffer = memoryview(bytearray(CHUNK))
        self.have = b""
        self.received, self.pause_at = 0, None
        words = ["user", proxy.server.user, "database", proxy.server.database, ""]
        body = struct.pack("!i", 196608) + b"".join(w.encode() + b"\0" for w in words)
        self.socket.sendall(struct.pack("!i", len(body) + 4) + body)
        self.answer()

    def query(self, sql):
        text = sql.encode() + b"\0"
        self.socket.sendall(b"Q" + struct.pack("!i", len(text) + 4) + text)

    def more(self):
        n = self.socket.recv_into(self.buffer)
        if not n:
            raise Failure("pgdrover closed the connection")
        self.received += n
        if self.pause_at and self.received >= self.pause_at:
            self.pause_at = time.sleep(5)
        return bytes(self.buffer[:n])

    def answer(self, until=b"Z"):
        """Reads up to a message of this type. Returns rows, bytes of rows, the command's tag."""
        rows, size, tag = 0, 0, ""
        while True:
            while len(self.have) < 5:
                self.have += self.more()
            kind, length = self.have[:1], struct.unpack_from("!i", self.have, 1)[0] + 1
            if kind == b"D":
                rows, size = rows + 1, size + length
                self.skip(length)
                continue
            while len(self.have) < length:
                self.have += self.more()
            body, self.have = self.have[5:length], self.have[length:]
            if kind == b"E":
                raise Failure(f"an error: {body!r}")
            if kind == b"C":
                tag = body[:-1].decode()
            if kind == until:
                return rows, size, tag

    def skip(self, length):
        while len(self.have) < length:
            length -= len(self.have)
            self.have = self.more()
        self.have = self.have[length:]


def result(rows, length, pause_at=None, server_sleeps=False):
    """Rows of this length each."""
    def run(client):
        value = f"repeat('0123456789', {length // 10})"
        sleep = ", CASE WHEN n % 50000 = 0 THEN pg_sleep(0.2) END" if server_sleeps else ""
        client.query(f"SELECT {value}{sleep} FROM generate_series(1, {rows}) AS n")
        client.pause_at = pause_at
        got, size, _ = client.answer()
        if got != rows or size < rows * length:
            raise Failure(f"{got} rows of {rows}, {size} bytes")
        return size
    return run


def copy_in(total, frame, server_sleeps=False):
    """So many bytes of lines of 1,000 bytes each, in CopyData frames of this length."""
    line = b"x" * 999 + b"\n"
    slow = b"slow" + b"x" * 995 + b"\n"

    def write(client, failures):
        try:
            sent, at = 0, 0
            while sent < total:
                size = min(frame, total - sent)
                client.socket.sendall(b"d" + struct.pack("!i", size + 4))
                end = sent + size
                while sent < end:
                    # A block of 100 lines, of which the first may be slow.
                    block = (slow if server_sleeps and at % 200 == 0 else line) + line * 99
                    offset = sent % len(block)
                    part = block[offset:offset + end - sent]
                    client.socket.sendall(part)
                    sent += len(part)
                    at = sent // len(block)
            client.socket.sendall(b"c" + struct.pack("!i", 4))
        except OSError as error:
            failures.append(error)

    def run(client):
        client.query("COPY bulk FROM STDIN")
        client.answer(until=b"G")
        failures = []
        writer = threading.Thread(target=write, args=(client, failures), daemon=True)
        writer.start()
        _, _, tag = client.answer()
        writer.join()
        if failures or tag != f"COPY {total // 1000}":
            raise Failure(f"{tag!r} {failures}")
        client.query("SELECT sum(length(line)) FROM bulk")
        client.answer()
        client.query("TRUNCATE bulk")
        client.answer()
        return total
    return run


CASES = {
    "900 MB in rows of 1 kB": result(900_000, 1000),
    "900 MB in one row": result(1, 900 * MB),
    "rows, reader stops for 5 s": result(900_000, 1000, pause_at=300 * MB),
    "one row, reader stops for 5 s": result(1, 900 * MB, pause_at=300 * MB),
    "rows, server stops often": result(900_000, 1000, server_sleeps=True),
    "COPY of 500 MB, frames of 64 kB": copy_in(500 * MB, 64_000),
    "COPY of 500 MB, one frame": copy_in(500 * MB, 500 * MB),
    "COPY of 500 MB, server stops": copy_in(500 * MB, 64_000, server_sleeps=True),
}


def status(proxy, field):
    """KiB of a line of /proc/PID/status."""
    for line in Path(f"/proc/{proxy.process.pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise Failure(f"no {field} in /proc")


def measure(proxy, run):
    """Memory at rest and at its highest, in KiB, the bytes moved and the seconds."""
    proxy.start()
    try:
        client = Client(proxy)
        client.query("SELECT 1")
        client.answer()
        idle, began = status(proxy, "VmRSS"), time.monotonic()
        moved = run(client)
        return idle, status(proxy, "VmHWM"), moved, time.monotonic() - began
    finally:
        proxy.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pgdrover", default="target/release/pgdrover", metavar="PATH")
    parser.add_argument("--limit", type=int, default=64, help="MiB above rest (default 64)")
    options = parser.parse_args()
    server = Server(os.environ)
    binary = shutil.which(options.pgdrover)
    if not binary:
        raise Failure("give --pgdrover PATH")
    server.psql(server.port, SETUP)
    over = []
    print(f"{'case':<33} {'rest, KiB':>10} {'peak, KiB':>10} {'added, KiB':>11} {'MB/s':>6}")
    for name, run in CASES.items():
        tell(name)
        with tempfile.TemporaryDirectory(prefix="pgdrover-bulk-") as folder:
            proxy = TrustingPgdrover(str(Path(binary).resolve()), server, Path(folder))
            idle, peak, moved, seconds = measure(proxy, run)
        tell("")
        print(f"{name:<33} {idle:>10} {peak:>10} {peak - idle:>11} {moved / MB / seconds:>6.0f}",
              flush=True)
        if peak - idle > options.limit * 1024:
            over.append(name)
    server.psql(server.port, "DROP TABLE bulk;")
    if over:
        raise Failure(f"more than {options.limit} MiB above rest: {', '.join(over)}")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"bulk.py: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
