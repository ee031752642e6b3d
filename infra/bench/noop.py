"""The peer: how fast Spark alone reads the topic, into its sink that drops everything.

`python -m infra.bench.noop SERVERS TOPIC JARS SCRATCH` prints events per second, the second of two
readings, with the session and the options that streaming uses.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from streaming.session import close_session, open_session
from streaming.settings import Settings
from streaming.source import options


def main() -> None:
    servers, topic, jars, scratch = sys.argv[1:]
    settings = Settings(Path(scratch), servers, master="local[2,4]", jars=Path(jars))
    session = open_session(settings)
    asked = {**options(settings, topic), "startingOffsets": "earliest"}
    frame = session.read.format("kafka").options(**asked).load()
    events = frame.count()
    rate = 0.0
    for _ in range(2):
        begun = time.monotonic()
        frame.write.format("noop").mode("overwrite").save()
        rate = events / (time.monotonic() - begun)
    print(rate)
    close_session(session)


if __name__ == "__main__":
    main()
