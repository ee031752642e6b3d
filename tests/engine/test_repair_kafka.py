"""What a repair reads of a real broker is what streaming was given: the committed records of exact
ranges."""

from __future__ import annotations

import time

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from infra.damage.log import IDLE, KafkaLog
from schemas.engine import RECORDS
from schemas.position import Range

pytestmark = pytest.mark.kafka


def test_committed_records_of_exact_ranges(broker: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.create_topics([NewTopic("repair", 2, 1)])
    producer = KafkaProducer(bootstrap_servers=broker, transactional_id="repair")
    producer.init_transactions()
    for at in range(3):  # 0 1 marker, 3 4 marker (aborted), 6 7 marker
        producer.begin_transaction()
        for n in (0, 1):
            producer.send("repair", b"%d" % (10 * at + n), key=b"k", partition=0, timestamp_ms=1500)
        if at == 1:
            producer.flush()
            producer.abort_transaction()
        else:
            producer.commit_transaction()
    producer.begin_transaction()
    producer.send("repair", b"other", partition=1, headers=[("from", b"here")])
    producer.commit_transaction()
    producer.close()

    log = KafkaLog(broker)
    facts = log.facts("repair")
    assert facts is not None
    assert facts.partitions == (0, 1)
    assert len(facts.id) > 8
    assert log.facts("nothing") is None
    assert log.bounds("repair", [0, 1]) == {0: (0, 9), 1: (0, 2)}

    begun = time.monotonic()
    found = log.records("repair", [Range(0, 1, 9), Range(1, 0, 2)])
    assert time.monotonic() - begun < IDLE  # a marker at the end of a range is not waited for
    assert found.schema == RECORDS
    rows = sorted(zip(*(found[n].to_pylist() for n in RECORDS.names), strict=True))
    assert [(p, o, v) for p, o, _, _, v, _ in rows] == [
        (0, 1, b"1"),
        (0, 6, b"20"),
        (0, 7, b"21"),
        (1, 0, b"other"),
    ]
    assert rows[0][2].isoformat() == "1970-01-01T00:00:01.500000"
    assert (rows[0][3], rows[3][3]) == (b"k", None)
    assert (rows[0][5], rows[3][5]) == (None, [{"key": "from", "value": b"here"}])
    assert log.records("repair", [Range(0, 3, 6)]).num_rows == 0

    admin.delete_records({TopicPartition("repair", 0): 6})
    assert log.bounds("repair", [0]) == {0: (6, 9)}
    admin.close()
    log.close()
