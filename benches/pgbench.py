#!/usr/bin/env python3
"""pgbench through pgdrover and through PgBouncer, in turn, on the same server.

    make bench ARGS="--rounds 5 --seconds 5"

or by hand, before a server that a demo has started:

    pgdrover demo --shards 1 --replicas 0 --port 0 --no-data -- \\
        benches/pgbench.py --pgdrover target/release/pgdrover

Every transaction selects one row of a sharded table by its key, so pgdrover parses, proves the
key and routes. Each protocol of pgbench runs at each number of clients. For each such cell:

TPS and latency   of the transactions that ended inside a window, which begins a second after
                  all clients are connected and ends before they stop.
CPU us/txn        user and system time of the proxy's process in the window, over those
                  transactions. On a small machine this is the sturdiest figure: TPS is what
                  pgbench and PostgreSQL leave over.

Rounds are interleaved (A B, B A, ...) and ratios are taken within a round, since the speed of a
shared machine drifts. The tables show medians over the rounds; "+-" is half the range.

Needs Python 3.9, psql and pgbench; runs PgBouncer as the user postgres when it is root itself.
"""

import argparse
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROTOCOLS = ("simple", "extended", "prepared")
USERS = 10_000
# Server connections that each proxy may open.
POOL = 20
SELECT = "SELECT lang, sms_enabled FROM user_preferences WHERE user_id = :user_id;"
DATA = f"""
INSERT INTO user_preferences (user_id, lang)
    SELECT n, 'lang' || n FROM generate_series(1, {USERS}) AS n
    ON CONFLICT (user_id) DO UPDATE SET lang = excluded.lang;
VACUUM ANALYZE user_preferences;
"""
STARTUP_SECONDS = 15
# What pgbench runs beyond the window: a second before, some after.
MARGIN_SECONDS = 2


class Failure(Exception):
    """The benchmark cannot go on; the message says why."""


# --- the server and the clients -------------------------------------------------------------


class Server:
    """The one PostgreSQL server, as the demo describes it."""

    def __init__(self, environ):
        try:
            cluster = json.loads(Path(environ["PGDROVER_CLUSTER"]).read_text())
            self.config = Path(environ["PGDROVER_CONFIG"])
            self.user, self.password = environ["PGUSER"], environ["PGPASSWORD"]
            self.database = environ["PGDATABASE"]
        except KeyError as missing:
            raise Failure(f"{missing} is not set: run this by `pgdrover demo ... -- `") from None
        primaries = [s for s in cluster["servers"] if s["role"] == "primary"]
        if len(primaries) != 1:
            raise Failure("this benchmark wants one shard: pgdrover demo --shards 1")
        self.host, self.port = primaries[0]["host"], primaries[0]["port"]

    def environ(self, port):
        """For a client that shall connect to this port."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        return dict(clean, PGHOST=self.host, PGPORT=str(port), PGUSER=self.user,
                    PGPASSWORD=self.password, PGDATABASE=self.database, PGSSLMODE="disable")

    def psql(self, port, sql):
        """The output of a script, unaligned."""
        done = subprocess.run(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1"], input=sql, text=True,
                              capture_output=True, env=self.environ(port), timeout=60)
        if done.returncode:
            raise Failure(done.stderr.strip())
        return done.stdout.split()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --- the contenders -------------------------------------------------------------------------


class Proxy:
    """A proxy that runs as a process of its own."""

    def __init__(self, name, server, folder):
        self.name, self.server, self.folder = name, server, folder / name
        self.folder.mkdir()
        self.port = free_port()
        self.process = None
        self.log = self.folder / "log"

    def command(self):
        """Writes the configuration; returns the command line and the account."""
        raise NotImplementedError

    def note(self, protocol):
        """What a reader must know of this proxy's figures for a protocol."""
        return ""

    def start(self):
        command, account = self.command()
        if account:
            for path in [self.folder, *self.folder.iterdir()]:
                shutil.chown(path, account)
        extra = {"user": account, "group": account, "extra_groups": []} if account else {}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, cwd="/", **extra)
        deadline = time.monotonic() + STARTUP_SECONDS
        while True:
            try:
                self.server.psql(self.port, "SELECT 1;")
                return
            except Failure as failure:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    tail = self.log.read_text(errors="replace")[-2000:]
                    raise Failure(f"{self.name} did not start: {failure}\n{tail}") from None
                time.sleep(0.1)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def cpu_seconds(self):
        """User and system time of the process so far."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        # The second field is the name in brackets, which may hold blanks.
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def check(self):
        """Refuses to time a proxy that gives wrong rows."""
        keys = range(1, USERS, USERS // 20)
        sql = "".join(f"SELECT lang FROM user_preferences WHERE user_id = {k};\n" for k in keys)
        if self.server.psql(self.port, sql) != [f"lang{k}" for k in keys]:
            raise Failure(f"{self.name} gives wrong rows")


class Pgdrover(Proxy):
    def __init__(self, binary, server, folder):
        super().__init__("pgdrover", server, folder)
        self.binary = binary

    def version(self):
        return first_line([self.binary, "--version"])

    def command(self):
        text = self.server.config.read_text()
        text = with_key(text, "listener", "port", str(self.port))
        text = with_key(text, "http", "address", f'"127.0.0.1:{free_port()}"')
        text = with_key(text, "pool", "default_pool_size", str(POOL))
        text = with_key(text, "pool", "server_tls_mode", '"disable"')
        config = self.folder / "pgdrover.toml"
        config.touch(mode=0o600)
        config.write_text(text)
        return [self.binary, "serve", "-c", str(config)], None


def with_key(text, section, key, value):
    """The TOML text with one key of a top-level section set."""
    head = re.search(rf"(?m)^\[{section}\]\n", text)
    if not head:
        # Before the first table, so that it cannot become part of one.
        first = re.search(r"(?m)^\[", text)
        at = first.start() if first else len(text)
        return f"{text[:at]}[{section}]\n{key} = {value}\n\n{text[at:]}"
    end = re.search(r"(?m)^\[", text[head.end():])
    end = head.end() + end.start() if end else len(text)
    body = re.sub(rf"(?m)^{key}\s*=.*\n", "", text[head.end():end])
    return f"{text[:head.end()]}{key} = {value}\n{body}{text[end:]}"


class PgBouncer(Proxy):
    def __init__(self, binary, server, folder, pool_mode="transaction", name="pgbouncer"):
        super().__init__(name, server, folder)
        self.binary, self.pool_mode = binary, pool_mode

    def version(self):
        return first_line([self.binary, "--version"])

    def keeps_prepared(self):
        """Whether it follows prepared statements in transaction mode (1.21 and later)."""
        found = re.search(r"(\d+)\.(\d+)", self.version())
        return bool(found) and (int(found[1]), int(found[2])) >= (1, 21)

    def command(self):
        users = self.folder / "users.txt"
        users.touch(mode=0o600)
        users.write_text(f'"{self.server.user}" "{self.server.password}"\n')
        session = self.pool_mode == "session"
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": users,
            "pool_mode": self.pool_mode,
            # In session mode each client holds a connection for itself.
            "default_pool_size": 150 if session else POOL,
            "max_client_conn": 1000,
            "server_tls_sslmode": "disable",
            "log_connections": 0,
            "log_disconnections": 0,
            "log_stats": 0,
        }
        if self.keeps_prepared():
            settings["max_prepared_statements"] = 200
        lines = "".join(f"{key} = {value}\n" for key, value in settings.items())
        server = self.server
        config = self.folder / "pgbouncer.ini"
        config.write_text(f"[databases]\n{server.database} = host={server.host} "
                          f"port={server.port} dbname={server.database}\n[pgbouncer]\n{lines}")
        # It refuses to run as root.
        return [self.binary, str(config)], "postgres" if os.geteuid() == 0 else None

    def note(self, protocol):
        if self.pool_mode == "session":
            return f"{self.version()} in session mode, since it loses prepared statements in " \
                   "transaction mode"
        return ""


def first_line(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    return (done.stdout or done.stderr).strip().partition("\n")[0]


# --- one measurement ------------------------------------------------------------------------


def measure(proxy, protocol, clients, seconds, folder):
    """Runs pgbench once; returns the figures of the window."""
    script = folder / "select.sql"
    script.write_text(f"\\set user_id random(1, {USERS})\n{SELECT}\n")
    with tempfile.TemporaryDirectory(dir=folder) as logs:
        command = ["pgbench", "-n", "-M", protocol, "-c", str(clients),
                   "-j", str(min(clients, os.cpu_count() or 1)), "-f", str(script),
                   "-T", str(seconds + MARGIN_SECONDS), "-P", "1", "-l",
                   "--log-prefix", os.path.join(logs, "log")]
        bench = subprocess.Popen(command, env=proxy.server.environ(proxy.port), text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            said = wait_for_progress(bench)
            begin, cpu = time.time(), proxy.cpu_seconds()
            time.sleep(seconds)
            end, cpu = time.time(), proxy.cpu_seconds() - cpu
            out, err = bench.communicate(timeout=30)
        finally:
            if bench.poll() is None:
                bench.kill()
                bench.wait()
        if bench.returncode or "aborted" in out + err:
            raise Failure(f"pgbench through {proxy.name} failed:\n{said}{err}{out}")
        latencies = sorted(latencies_between(Path(logs), begin, end))
    if len(latencies) < 100:
        raise Failure(f"{proxy.name}: only {len(latencies)} transactions in {seconds} s")
    return {
        "tps": len(latencies) / (end - begin),
        "p50_ms": percentile(latencies, 50) / 1000,
        "p99_ms": percentile(latencies, 99) / 1000,
        "cpu_us": cpu * 1e6 / len(latencies),
    }


def wait_for_progress(bench):
    """Reads what pgbench says until its clients are connected and have run for a second."""
    said = ""
    for line in bench.stderr:
        said += line
        if line.startswith("progress:"):
            return said
    raise Failure(f"pgbench did not start:\n{said}{bench.stdout.read()}")


def latencies_between(folder, begin, end):
    """Microseconds of each logged transaction that ended in the window."""
    for path in folder.iterdir():
        with open(path) as log:
            for line in log:
                fields = line.split()
                if begin <= int(fields[4]) + int(fields[5]) / 1e6 < end:
                    yield int(fields[2])


def percentile(ordered, percent):
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


# --- the whole run --------------------------------------------------------------------------


def contenders(options, server, folder):
    """For each name a proxy by protocol."""
    chosen = {}
    if "pgdrover" in options.contenders:
        binary = shutil.which(options.pgdrover)
        if not binary:
            raise Failure(f"there is no {options.pgdrover}: build it, or give --pgdrover PATH")
        proxy = Pgdrover(str(Path(binary).resolve()), server, folder)
        chosen["pgdrover"] = dict.fromkeys(PROTOCOLS, proxy)
    if "pgbouncer" in options.contenders:
        path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
        binary = shutil.which(options.pgbouncer, path=path)
        if not binary:
            raise Failure("PgBouncer is not installed (package pgbouncer), or give --pgbouncer")
        proxy = PgBouncer(binary, server, folder)
        chosen["pgbouncer"] = dict.fromkeys(PROTOCOLS, proxy)
        if not proxy.keeps_prepared():
            session = PgBouncer(binary, server, folder, "session", "pgbouncer-session")
            chosen["pgbouncer"]["prepared"] = session
    return chosen


def run(options, server, folder):
    """All rounds; returns (protocol, clients, contender) -> the figures of each round."""
    chosen = contenders(options, server, folder)
    server.psql(server.port, DATA)
    proxies = {id(p): p for by_protocol in chosen.values() for p in by_protocol.values()}
    results = {}
    try:
        for proxy in proxies.values():
            proxy.start()
            proxy.check()
        for round_ in range(options.rounds):
            names = list(chosen) if round_ % 2 == 0 else list(reversed(chosen))
            for protocol in options.protocols:
                for clients in options.clients:
                    for name in names:
                        tell(f"round {round_ + 1}/{options.rounds}: {protocol}, "
                             f"{clients} clients, {name}")
                        figures = measure(chosen[name][protocol], protocol, clients,
                                          options.seconds, folder)
                        results.setdefault((protocol, clients, name), []).append(figures)
    finally:
        tell("")
        for proxy in proxies.values():
            proxy.stop()
    return chosen, results


def tell(text):
    """One line of progress, which the next one replaces."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def medians(rounds):
    return {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}


def ratio(results, cell, key):
    """pgdrover over PgBouncer within each round: the median and half the range."""
    pairs = zip(results[(*cell, "pgdrover")], results[(*cell, "pgbouncer")])
    ratios = [ours[key] / theirs[key] for ours, theirs in pairs if theirs[key]]
    if not ratios:
        return "-"
    return f"{statistics.median(ratios):.2f} +-{(max(ratios) - min(ratios)) / 2:.2f}"


def report(options, chosen, results):
    """The table."""
    head = ("protocol", "clients", "proxy", "TPS", "p50 ms", "p99 ms", "CPU us/txn")
    rows = [head]
    both = len(chosen) == 2
    if both:
        rows = [(*head, "CPU ratio", "TPS ratio")]
    for protocol in options.protocols:
        for clients in options.clients:
            for name in chosen:
                m = medians(results[(protocol, clients, name)])
                row = (protocol, str(clients), name, f"{m['tps']:.0f}", f"{m['p50_ms']:.3f}",
                       f"{m['p99_ms']:.3f}", f"{m['cpu_us']:.1f}")
                if both:
                    cell = (protocol, clients)
                    row += ((ratio(results, cell, "cpu_us"), ratio(results, cell, "tps"))
                            if name == "pgdrover" else ("", ""))
                rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        left = [cell.ljust(w) for cell, w in zip(row[:3], widths)]
        right = [cell.rjust(w) for cell, w in zip(row[3:], widths[3:])]
        print("  ".join(left + right).rstrip())
    print()
    if both:
        print("Ratios are pgdrover over pgbouncer; for CPU, below 1 is better.")
    notes = {(name, protocol): by_protocol[protocol].note(protocol)
             for name, by_protocol in chosen.items() for protocol in options.protocols}
    for (name, protocol), note in notes.items():
        if note:
            print(f"{name}, {protocol}: {note}.")


def save(options, chosen, results, folder):
    """Everything that was measured, for later comparison."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / time.strftime("pgbench-%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps({
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "versions": {name: next(iter(p.values())).version() for name, p in chosen.items()},
        "seconds": options.seconds,
        "cells": [{"protocol": p, "clients": c, "proxy": name, "rounds": rounds}
                  for (p, c, name), rounds in results.items()],
    }, indent=1) + "\n")
    print(f"Raw figures: {path}")


def numbers(text):
    return [int(n) for n in text.split(",")]


def words(allowed):
    def parse(text):
        given = text.split(",")
        unknown = [w for w in given if w not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(allowed)}")
        return given
    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="length of a window")
    parser.add_argument("--clients", type=numbers, default=[1, 16, 64], help="comma-separated")
    parser.add_argument("--protocols", type=words(PROTOCOLS), default=list(PROTOCOLS),
                        help="comma-separated")
    parser.add_argument("--contenders", type=words(("pgdrover", "pgbouncer")),
                        default=["pgdrover", "pgbouncer"], help="comma-separated")
    parser.add_argument("--pgdrover", default="target/release/pgdrover", help="the binary")
    parser.add_argument("--pgbouncer", default="pgbouncer", help="the binary")
    parser.add_argument("--results", type=Path, default=Path("bench-results"),
                        help="folder for the raw figures")
    options = parser.parse_args()
    try:
        server = Server(os.environ)
        with tempfile.TemporaryDirectory(prefix="pgdrover-bench-") as folder:
            # PgBouncer may be another user.
            os.chmod(folder, 0o711)
            chosen, results = run(options, server, Path(folder))
        report(options, chosen, results)
        save(options, chosen, results, options.results)
    except Failure as failure:
        sys.exit(f"benchmark: {failure}")


if __name__ == "__main__":
    main()
