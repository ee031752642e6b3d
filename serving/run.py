"""`python -m serving.run --state DIR [--host 127.0.0.1] [--port 0] [--memory 2GB] [--tokens FILE]`:
serving.

Answers `/healthz` at once; waits, not ready, while there is no ledger or no stream. SIGTERM and
SIGINT end it with exit code 0, a second one at once. Exit code 1: the address cannot be had, or
no process can be started; 2: bad use.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import logging
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from serving.coverage import iso
from serving.front.api import application
from serving.front.front import Front
from serving.front.listening import Server
from serving.front.neighbours import LOOPBACK
from serving.front.pool import Pool
from serving.front.tokens import Tokens, TokensInvalid
from serving.front.watch import DISK_FLOOR, Limits, Watch
from serving.log import set_up

REPORT_SECONDS = 0.5
MEMORY = "2GB"
_MEMORY = re.compile(r"(?=.*[1-9])\d+(\.\d+)?\s*([KMGT]i?)?B", re.IGNORECASE)

log = logging.getLogger("serving")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    set_up("serving")
    if options.tokens is None and not _loopback(options.host):
        log.warning("listening on %s: ANYBODY who reaches it may ask ANYTHING", options.host)
    try:
        listening = socket.create_server((options.host, options.port), family=_family(options.host))
    except OSError as error:
        log.error("cannot listen on %s:%s: %s", options.host, options.port, error.strerror)
        return 1
    # asyncio sets it on sockets that say that they are TCP, which those accepted here do not:
    # without it each answer waits 40 ms for the client to confirm its head
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listening:
        return Serving(options, listening).run()


class Serving:
    """The process that clients meet; it starts and ends the others."""

    def __init__(self, options: argparse.Namespace, listening: socket.socket) -> None:
        self._listening = listening
        self._report_path = options.state / "run" / "serving.json"
        self._url = _url(listening)
        limits = Limits(options.disk_floor, options.freshness_limit)
        self._watch = Watch(time.time, time.monotonic, limits)
        self._pool = Pool(options.state, options.workers, options.memory, self._watch.tell)
        self._front = Front(
            self._pool, killed=self._watch.queries.killed, waits=self._watch.queries.queue
        )
        self._failed = False
        hosts = _hosts(options.host)
        self._server = Server(application(self._front, hosts, options.tokens, self._watch))

    def run(self) -> int:
        self._report("starting")
        log.info("serving answers at %s", self._url)
        try:
            asyncio.run(self._serve())
        finally:
            self._report("failed" if self._failed else "stopped")
        return 1 if self._failed else 0

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        running = asyncio.create_task(self._run())
        reporting = asyncio.create_task(self._reporting())
        try:
            # `serve` would end the process by the signal
            await self._server._serve([self._listening])
        finally:
            reporting.cancel()
            running.cancel()
            self._pool.close()

    async def _run(self) -> None:
        try:
            await self._pool.run()
        except asyncio.CancelledError:
            raise
        except BaseException:
            log.exception("the processes of this server cannot be run")
            self._failed = True
            self._server.should_exit = True

    async def _reporting(self) -> None:
        """Says what the server waits for, once for each reason, and writes its report."""
        last: tuple[list[str], list[str]] | None = None
        while True:
            reasons = self._front.unready() + self._watch.unready()
            waiting = [f"view {view!r} {why}" for view, why in self._front.waiting().items()]
            if (reasons, waiting) != last:
                log.info("%s", "; ".join(reasons or ["ready", *waiting]))
                self._report("starting" if reasons else "running")
                last = reasons, waiting
            await asyncio.sleep(REPORT_SECONDS)

    def _end(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._server.should_exit:
            self._server.force_exit = True
        self._server.should_exit = True
        self._loop.call_soon_threadsafe(self._front.close)

    def _report(self, state: str) -> None:
        """Replace `<state>/run/serving.json` whole."""
        report = {
            "pid": os.getpid(),
            "state": state,
            "http": self._url,
            "at": iso(datetime.now(UTC)),
        }
        self._report_path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._report_path.with_name(f".{self._report_path.name}.{os.getpid()}")
        aside.write_text(json.dumps(report) + "\n")
        aside.replace(self._report_path)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="serving.run", description="Answer SQL over the views.")
    parser.add_argument("--state", type=Path, required=True, help="the state folder")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0 finds a free one")
    help_ = "what views and queries may take, such as 512MB; default: %(default)s"
    parser.add_argument("--memory", default=MEMORY, help=help_)
    help_ = "how many statements may run at once; default: one per core, at least two"
    parser.add_argument("--workers", type=int, default=max(2, os.cpu_count() or 1), help=help_)
    parser.add_argument(
        "--disk-floor",
        type=int,
        default=DISK_FLOOR,
        help="bytes that the disk of the state must have left; default: %(default)s",
    )
    parser.add_argument(
        "--freshness-limit",
        type=float,
        help="seconds that answers may be old; without it they may be as old as they are",
    )
    parser.add_argument(
        "--insecure-listen",
        action="store_true",
        help="allow an address that others reach: anybody may then ask anything",
    )
    help_ = "who may ask: a file of lines NAME SHA256-OF-TOKEN; default: anybody who can"
    parser.add_argument("--tokens", type=Path, metavar="FILE", help=help_)
    options = parser.parse_args(arguments)
    if options.tokens is not None:
        try:
            options.tokens = Tokens(options.tokens)
        except TokensInvalid as error:
            parser.error(str(error))
    elif not _loopback(options.host) and not options.insecure_listen:
        parser.error(
            f"--host must be a loopback address; got {options.host!r}, which others can reach. "
            "Say who may ask with --tokens FILE, or add --insecure-listen to let anybody ask"
        )
    if options.disk_floor < 0:
        parser.error(f"--disk-floor must be 0 or more bytes; got {options.disk_floor}")
    if options.freshness_limit is not None and not options.freshness_limit > 0:
        parser.error(f"--freshness-limit must be above 0; got {options.freshness_limit:g}")
    if not 0 <= options.port < 2**16:
        parser.error(f"--port must be from 0 to 65535; got {options.port}")
    if options.workers < 2:
        parser.error(f"--workers must be at least 2; got {options.workers}")
    if not _MEMORY.fullmatch(options.memory):
        parser.error(f"--memory must be a number with a unit, such as 2GB; got {options.memory!r}")
    return options


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hosts(host: str) -> frozenset[str] | None:
    """Names that requests may use; any, where others are meant to reach the server."""
    return LOOPBACK | {_bracketed(host)} if _loopback(host) else None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{_bracketed(host)}:{port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # a thread deep in a query or a round of epochs holds nothing worth waiting for
