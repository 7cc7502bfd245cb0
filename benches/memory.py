#!/usr/bin/env python3
"""Memory of pgdrover and of PgBouncer for each idle client that is logged in.

    pgdrover demo --shards 1 --replicas 0 --port 0 --no-data -- \\
        benches/memory.py --pgdrover target/release/pgdrover

Each proxy in turn gets a first few clients, so that what it needs anyway is there, and then
--clients more, each of which logs in, runs one statement and stays. The figure is what the
resident memory of the proxy's process grew by, for each of them. TLS is off.

Needs what pgbench.py needs, and shares its proxies.
"""

import argparse
import os
import resource
import shutil
import socket
import struct
import sys
import tempfile
from pathlib import Path

from pgbench import Failure, PgBouncer, Pgdrover, Server, tell, with_key

WARM = 50


class Trusting:
    """Mixed into a proxy: logins without a password, so that clients are cheap to make."""

    def relax(self, config, old, new):
        text = config.read_text()
        if old not in text:
            raise Failure(f"{config} has no {old}")
        config.write_text(text.replace(old, new))


class TrustingPgdrover(Trusting, Pgdrover):
    def command(self):
        command, account = super().command()
        config = Path(command[-1])
        text = with_key(config.read_text(), "session", "auth_type", '"trust"')
        config.write_text(with_key(text, "listener", "max_client_conn", "20000"))
        return command, account


class TrustingPgBouncer(Trusting, PgBouncer):
    def command(self):
        command, account = super().command()
        config = Path(command[-1])
        self.relax(config, "auth_type = scram-sha-256", "auth_type = trust")
        self.relax(config, "max_client_conn = 1000", "max_client_conn = 20000")
        return command, account


def login(proxy):
    """A client that has logged in and run a statement."""
    server = proxy.server
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
    words = ["user", server.user, "database", server.database, ""]
    body = struct.pack("!i", 196608) + b"".join(w.encode() + b"\0" for w in words)
    client.sendall(struct.pack("!i", len(body) + 4) + body)
    until_ready(client)
    client.sendall(b"Q" + struct.pack("!i", 13) + b"SELECT 1\0")
    until_ready(client)
    return client


def until_ready(client):
    said = b""
    while not said.endswith(b"Z\0\0\0\x05I"):
        more = client.recv(65536)
        if not more or said.startswith(b"E"):
            raise Failure(f"a client was turned away: {(said + more)[:200]!r}")
        said += more


def resident(proxy):
    """Bytes of memory that the process has in RAM, without what it shares with files."""
    for line in Path(f"/proc/{proxy.process.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise Failure("no RssAnon in /proc")


def measure(proxy, clients):
    proxy.start()
    held = []
    try:
        held += [login(proxy) for _ in range(WARM)]
        before = resident(proxy)
        for n in range(clients):
            held.append(login(proxy))
            if n % 100 == 0:
                tell(f"{proxy.name}: {n} clients")
        return before, resident(proxy)
    finally:
        for client in held:
            client.close()
        proxy.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pgdrover", default="target/release/pgdrover", metavar="PATH")
    parser.add_argument("--pgbouncer", default="pgbouncer", metavar="PATH")
    parser.add_argument("--clients", type=int, default=1000)
    options = parser.parse_args()
    # One descriptor for each client, here and in the proxies.
    wanted = options.clients + 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    server = Server(os.environ)
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    ours, theirs = shutil.which(options.pgdrover), shutil.which(options.pgbouncer, path=path)
    if not ours or not theirs:
        raise Failure("give --pgdrover PATH and --pgbouncer PATH")
    with tempfile.TemporaryDirectory(prefix="pgdrover-memory-") as folder:
        folder = Path(folder)
        folder.chmod(0o755)
        proxies = (TrustingPgdrover(str(Path(ours).resolve()), server, folder),
                   TrustingPgBouncer(theirs, server, folder))
        print(f"{'proxy':<10} {'before, KiB':>12} {'after, KiB':>12} {'bytes/client':>13}")
        for proxy in proxies:
            before, after = measure(proxy, options.clients)
            tell("")
            each = (after - before) / options.clients
            print(f"{proxy.name:<10} {before // 1024:>12} {after // 1024:>12} {each:>13.0f}")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"memory.py: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
