"""Kafka: one broker and controller on loopback, from jars, with its log in `<state>/kafka`.

All paths in its settings are relative to the state folder, where it runs: a state can be moved,
and no character of its path has to be escaped. The voters are static, so that another controller
port at the next start does not matter to the metadata log.
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
import struct
import subprocess
import sys
import uuid
from datetime import datetime
from pathlib import Path

from infra import jars
from infra.java import java_command
from infra.supervisor import Health, Part
from schemas.errors import BadUse

PROPERTIES = """\
process.roles=broker,controller
node.id=1
log.dir={log_dir}
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
"""

LOGGING = """\
log4j.rootLogger=WARN, out
log4j.logger.kafka.server.KafkaRaftServer=INFO
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %m (%c)%n
"""

FORMAT_WITHIN = 60.0
ANSWER_WITHIN = 2.0


def part(state: Path, port: int, controller: int, heap: str) -> Part:
    """The broker of a state at a port; `heap` as Java's -Xmx has it, such as 512m."""

    def probe(_pid: int, _now: datetime) -> Health:
        good = answers("127.0.0.1", port, ANSWER_WITHIN)
        return Health(alive=good, ready=good, note="" if good else "no answer to ApiVersions")

    return Part(
        name="kafka",
        command=(
            *_java(),
            f"-Xmx{heap}",
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            "-Dlog4j2.StatusLogger.level=OFF",  # it complains about a harmless lack
            "-Dlog4j.configuration=file:kafka/log4j.properties",
            "kafka.Kafka",
            "kafka/server.properties",
        ),
        probe=probe,
        prepare=lambda: prepare(state, port, controller),
        grace=5.0,
        every=0.1,
    )


def prepare(state: Path, port: int, controller: int) -> None:
    """Writes the broker's settings and, once in the life of a state, formats its log."""
    folder = state / "kafka"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log4j.properties").write_text(LOGGING, encoding="utf-8")
    settings = PROPERTIES.format(log_dir="kafka/log", port=port, controller=controller)
    (folder / "server.properties").write_text(settings, encoding="utf-8")
    if not (folder / "log").exists():
        _format(state, port, controller)


def _format(state: Path, port: int, controller: int) -> None:
    """Formats beside, then renames: a log that exists is formatted whole."""
    beside = state / "kafka" / "formatting"
    shutil.rmtree(beside, ignore_errors=True)
    file = state / "kafka" / "format.properties"
    settings = PROPERTIES.format(log_dir="kafka/formatting", port=port, controller=controller)
    file.write_text(settings, encoding="utf-8")
    cluster = _cluster_id()
    command = (sys.executable, "-P", "-m", "infra.launch", str(os.getpid()), *_java(), "-Xmx256m")
    command += ("-Dlog4j.configuration=file:kafka/log4j.properties", "kafka.tools.StorageTool")
    command += ("format", "-t", cluster, "-c", "kafka/format.properties")
    done = subprocess.run(
        command, cwd=state, capture_output=True, text=True, timeout=FORMAT_WITHIN, check=False
    )
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        message = f"could not format {beside}: {' '.join(last)}"
        raise OSError(message)
    file.unlink()
    beside.rename(state / "kafka" / "log")


def _cluster_id() -> str:
    """22 characters of URL-safe base64; one that starts with a dash would pass for an option."""
    while True:
        found = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not found.startswith("-"):
            return found


def _java() -> tuple[str, ...]:
    java = java_command()
    if java is None:
        message = (
            "Kafka needs Java 17 or later; none was found. Set JAVA_HOME, or put `java` in PATH"
        )
        raise BadUse(message)
    return (str(java), "-cp", f"{jars.broker_classpath()}/*")


def answers(host: str, port: int, within: float) -> bool:
    """Whether a broker answers ApiVersions there; an open port is not enough."""
    return why_silent(host, port, within) is None


def why_silent(host: str, port: int, within: float) -> str | None:
    """Why no broker answers ApiVersions (key 18, version 0) within seconds; None if one does."""
    request = struct.pack(">hhih", 18, 0, 1, -1)  # no client id
    try:
        with socket.create_connection((host, port), timeout=within) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            reply = b""
            while len(reply) < 10:
                more = connection.recv(10 - len(reply))
                if not more:
                    return "it closed the connection: TLS, or no Kafka?"
                reply += more
    except socket.gaierror:
        return "the name does not resolve"
    except ConnectionRefusedError:
        return "nothing listens there"
    except TimeoutError:
        return f"no answer within {within:.0f} s"
    except OSError as error:
        return str(error.strerror or error)
    _, correlation, error_code = struct.unpack(">iih", reply)
    return None if correlation == 1 and error_code == 0 else "its answer is not Kafka's"
