"""The ledger's tables: what is true.

    streams ---< stream_versions                    declarations, every version ever registered
       |  \\
       |   ---< views ---> versions ---< version_references >--- references_
       |                      |
       |                      | by id
       |                      v
       |    folded_sets ---< folded_versions        each distinct set of folded versions, once
       |       ^
       |       | folded
       ---< epochs ---< ranges                      one row per epoch; one per partition it moved
       |
       ---< files                                   what an epoch wrote; readers read nothing else
       |
       ---< replays ---< replay_epochs              rejects tried again, and the epochs it came to

    leases                                          who may write what, under which token
    state                                           one row: the number of the last transaction
    migrations                                      one row per migration that was applied

Every transaction that writes adds 1 to `state.number`; a column that ends in `_state` holds such a
number. A file that leaves keeps its row until it is removed from the disk: `removed_state` says
when it stopped counting. Rows of `epochs` and `ranges` never change until sealing folds them into
one of `sealed`, and several of those into one. Later migrations add tables and columns that may be
NULL or have a default; none changes what a column means.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from schemas.ledger.instant import Instant

metadata = MetaData()

# SQLite numbers rows by itself only where the type is spelled INTEGER, which is 64 bits wide there
Number = BigInteger().with_variant(Integer, "sqlite")

migrations = Table(
    "migrations",
    metadata,
    # The migration that was applied; the largest one is the ledger's own number.
    Column("number", Integer, primary_key=True, autoincrement=False),
)

state = Table(
    "state",
    metadata,
    # Always 1: there is one row.
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    # How many transactions have written so far.
    Column("number", BigInteger, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    # What may be written under it, such as `stream/flights`.
    Column("name", Text, primary_key=True),
    # Grows each time that the lease is taken and never goes back, so the row is never removed.
    Column("token", BigInteger, nullable=False),
    # The machine of the holder; NULL where nobody holds it.
    Column("host", Text),
    # The process of the holder on that machine.
    Column("pid", BigInteger),
    # When that process started (seconds since 1970), as process ids come again.
    Column("started", Double),
    # When the holder stops holding unless it renews.
    Column("expires", Instant),
)

streams = Table(
    "streams",
    metadata,
    # The name it was declared under.
    Column("name", Text, primary_key=True),
    # The Kafka topic that it reads.
    Column("topic", Text, nullable=False),
    # The id that Kafka gave the topic, recorded at first sight; another one is another topic.
    Column("topic_id", Text),
    # The version that accepts events now.
    Column("version", Text, nullable=False),
    # Why it cannot go on, as JSON: message, missing (partition, start, until) and instant; NULL
    # while it can.
    Column("stopped", Text),
)

losses = Table(
    "losses",
    metadata,
    # The stream that goes on without ...
    Column("stream", Text, ForeignKey("streams.name"), primary_key=True),
    # ... offsets of this partition, ...
    Column("partition", Integer, primary_key=True, autoincrement=False),
    # ... from here on ...
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    # ... up to this one, which is not lost.
    Column("until", BigInteger, nullable=False),
    # When somebody decided that.
    Column("instant", Instant, nullable=False),
    # The transaction that recorded it.
    Column("added_state", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

stream_versions = Table(
    "stream_versions",
    metadata,
    # The stream it is a version of.
    Column("stream", Text, ForeignKey("streams.name"), primary_key=True),
    # The hash of its meaning.
    Column("id", Text, primary_key=True),
    # Its `CREATE STREAM`, as it was written.
    Column("definition", Text, nullable=False),
    # When it was registered.
    Column("registered", Instant, nullable=False),
    sqlite_with_rowid=False,
)

references_ = Table(
    "references_",
    metadata,
    # A number of its own.
    Column("id", Number, primary_key=True),
    # The name it was declared under.
    Column("name", Text, nullable=False),
    # Of its content, which the file under the data root must have.
    Column("sha256", Text, nullable=False),
    # Its `CREATE TABLE`, as it was written.
    Column("definition", Text, nullable=False),
    # Where its content lies, relative to the data root.
    Column("file", Text, nullable=False),
    # The size of its content; NULL where it was not told.
    Column("bytes", BigInteger),
    UniqueConstraint("name", "sha256", "definition"),
)

versions = Table(
    "versions",
    metadata,
    # The view it is a version of.
    Column("view", Text, primary_key=True),
    # The hash of its meaning; what epochs, segments and runs call it by.
    Column("id", Text, primary_key=True),
    # The stream whose events it counts.
    Column("stream", Text, ForeignKey("streams.name"), nullable=False),
    # Its `CREATE VIEW`, as it was written.
    Column("definition", Text, nullable=False),
    # When it was registered.
    Column("registered", Instant, nullable=False),
    # The first epoch that carries it without a hole up to now; NULL until one does.
    Column("first_epoch", BigInteger),
    # The epoch that an error in its own expressions kept it out of; NULL while it is folded.
    Column("suspended_epoch", BigInteger),
    # That error, with the event that it was met at.
    Column("suspended_message", Text),
    # The stream's last epoch when it was given up; NULL while it is to be folded.
    Column("retired_epoch", BigInteger),
    # The first epoch that it counts, where retention had removed those before; NULL: all of them.
    Column("since_epoch", BigInteger),
    # The version of the stream by whose declaration it reads events.
    Column("stream_version", Text),
    Index("versions_of_stream", "stream", "retired_epoch"),
    sqlite_with_rowid=False,
)

version_references = Table(
    "version_references",
    metadata,
    # The view and ...
    Column("view", Text, primary_key=True),
    # ... the version of it that joins the reference.
    Column("version", Text, primary_key=True),
    # The reference, with the content that the version is about.
    Column("reference", Number, ForeignKey("references_.id"), primary_key=True),
    ForeignKeyConstraint(["view", "version"], ["versions.view", "versions.id"]),
    sqlite_with_rowid=False,
)

views = Table(
    "views",
    metadata,
    # The name that queries use.
    Column("name", Text, primary_key=True),
    # The version that answers.
    Column("version", Text, nullable=False),
    # The version that was registered last, which answers once it is built; NULL: it does already.
    Column("wanted", Text),
    # The publication whose batch view is served; NULL while speed holds everything.
    Column("publication", Number),
    ForeignKeyConstraint(["name", "version"], ["versions.view", "versions.id"]),
)

folded_sets = Table(
    "folded_sets",
    metadata,
    # A number of its own.
    Column("id", Number, primary_key=True),
    # sha256 of the sorted version ids, by which a set is found again.
    Column("digest", Text, nullable=False, unique=True),
)

folded_versions = Table(
    "folded_versions",
    metadata,
    # The set.
    Column("folded", Number, ForeignKey("folded_sets.id"), primary_key=True),
    # A version id in it.
    Column("version", Text, primary_key=True),
    sqlite_with_rowid=False,
)

epochs = Table(
    "epochs",
    metadata,
    # The stream.
    Column("stream", Text, ForeignKey("streams.name"), primary_key=True),
    # 1, 2, 3, ... without a gap.
    Column("epoch", BigInteger, primary_key=True),
    # When it was planned to count, never before that of the epoch before.
    Column("instant", Instant, nullable=False),
    # The token of the lease that it was committed under.
    Column("token", BigInteger, nullable=False),
    # Made by the writer, so that a repeated commit recognises itself.
    Column("uuid", Text, nullable=False, unique=True),
    # The version of the stream that accepted its events.
    Column("stream_version", Text, nullable=False),
    # The id of the topic that its ranges belong to; NULL where it was not known.
    Column("topic_id", Text),
    # The versions folded in it.
    Column("folded", Number, ForeignKey("folded_sets.id"), nullable=False),
    # Events accepted, the duplicates among them included.
    Column("accepted", BigInteger, nullable=False),
    # Accepted events whose event id counts already.
    Column("duplicates", BigInteger, nullable=False),
    # Events that went to the rejects.
    Column("rejected", BigInteger, nullable=False),
    # The position after it, as JSON: `{"0": 12}`.
    Column("position", Text, nullable=False),
    # The transaction that committed it.
    Column("added_state", BigInteger, nullable=False),
    # What was seen up to it of event times and rejects, as JSON (see `schemas.observed`); NULL
    # where it was not told.
    Column("observed", Text),
    ForeignKeyConstraint(
        ["stream", "stream_version"], ["stream_versions.stream", "stream_versions.id"]
    ),
    sqlite_with_rowid=False,
)

ranges = Table(
    "ranges",
    metadata,
    # The stream and ...
    Column("stream", Text, primary_key=True),
    # ... the epoch that the range belongs to.
    Column("epoch", BigInteger, primary_key=True),
    # The partition of the topic.
    Column("partition", Integer, primary_key=True),
    # The first offset in it.
    Column("start", BigInteger, nullable=False),
    # The first offset behind it.
    Column("until", BigInteger, nullable=False),
    ForeignKeyConstraint(["stream", "epoch"], ["epochs.stream", "epochs.epoch"]),
    sqlite_with_rowid=False,
)

files = Table(
    "files",
    metadata,
    # A number of its own.
    Column("id", Number, primary_key=True),
    # What it is: `segment`, `master`, `rejects`, `ids`, `run`, `batch`, `finished`, `base`.
    Column("kind", Text, nullable=False),
    # The stream whose events it holds.
    Column("stream", Text, ForeignKey("streams.name"), nullable=False),
    # The first epoch in it and ...
    Column("from_epoch", BigInteger, nullable=False),
    # ... the last one, which is in it too.
    Column("until_epoch", BigInteger, nullable=False),
    # Where it lies, relative to the data root.
    Column("path", Text, nullable=False, unique=True),
    # Of its bytes, lower-case hex.
    Column("sha256", Text, nullable=False),
    # Its size.
    Column("bytes", BigInteger, nullable=False),
    # Events in it, accepted and rejected.
    Column("rows", BigInteger, nullable=False),
    # Accepted events in it, the duplicates among them included.
    Column("accepted", BigInteger, nullable=False),
    # Duplicates in it.
    Column("duplicates", BigInteger, nullable=False),
    # Rejects in it.
    Column("rejected", BigInteger, nullable=False),
    # Whether it lists the event ids that it counts.
    Column("has_ids", Boolean, nullable=False),
    # The token of the lease that it was written under.
    Column("token", BigInteger, nullable=False),
    # The transaction that named it.
    Column("added_state", BigInteger, nullable=False),
    # The transaction that put others in its place; NULL while it counts.
    Column("removed_state", BigInteger),
    # When that was.
    Column("removed", Instant),
    # Of runs, bases and of what a build wrote: the version whose partials or rows they are.
    Column("version", Text),
    # Of runs, bases and batch files: the partial table.
    Column("partials", Text),
    # The build that wrote it.
    Column("build", Number),
    Index("files_of_epochs", "stream", "kind", "from_epoch"),
    Index("files_of_build", "build"),
    Index("files_removed", "stream", "removed"),
)

sealed = Table(
    "sealed",
    metadata,
    # The stream and ...
    Column("stream", Text, ForeignKey("streams.name"), primary_key=True),
    # ... the last epoch in the range, which is in it too: a sealed boundary.
    Column("until_epoch", BigInteger, primary_key=True),
    # The first epoch in it.
    Column("from_epoch", BigInteger, nullable=False),
    # How often ranges were merged to get it; 0 as it was sealed.
    Column("level", Integer, nullable=False),
    # When its first epoch was planned to count.
    Column("from_instant", Instant, nullable=False),
    # When its last epoch was.
    Column("instant", Instant, nullable=False),
    # The version of the stream that accepted its events.
    Column("stream_version", Text, nullable=False),
    # The id of the topic that its ranges belong to.
    Column("topic_id", Text),
    # The versions folded in every epoch of it.
    Column("folded", Number, ForeignKey("folded_sets.id"), nullable=False),
    # Events accepted, the duplicates among them included.
    Column("accepted", BigInteger, nullable=False),
    # Accepted events whose event id counted already.
    Column("duplicates", BigInteger, nullable=False),
    # Events that went to the rejects.
    Column("rejected", BigInteger, nullable=False),
    # The offsets that it covers, as JSON: `{"0": [3, 12]}` is 3 to 11 of partition 0.
    Column("ranges", Text, nullable=False),
    # The position after it, as JSON.
    Column("position", Text, nullable=False),
    # The uuid of its last epoch, whose commit may be repeated still.
    Column("uuid", Text, nullable=False, unique=True),
    # The transaction that sealed or merged it.
    Column("added_state", BigInteger, nullable=False),
    # What was seen up to it of event times and rejects, as JSON (see `schemas.observed`); NULL
    # where it was not told.
    Column("observed", Text),
    sqlite_with_rowid=False,
)

seal_requests = Table(
    "seal_requests",
    metadata,
    # The stream.
    Column("stream", Text, ForeignKey("streams.name"), primary_key=True),
    # The epoch up to which it is to be sealed soon.
    Column("epoch", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

replays = Table(
    "replays",
    metadata,
    # A number of its own.
    Column("id", Number, primary_key=True),
    # The stream whose rejects are tried again.
    Column("stream", Text, ForeignKey("streams.name"), nullable=False),
    # The last epoch whose rejects it is about.
    Column("until_epoch", BigInteger, nullable=False),
    # The reject up to which all were considered: the epoch that rejected it, ...
    Column("at_epoch", BigInteger, nullable=False),
    # ... its partition and ...
    Column("at_partition", Integer, nullable=False),
    # ... its offset; -1 before the first.
    Column("at_offset", BigInteger, nullable=False),
    # Rejects that were tried again so far.
    Column("considered", BigInteger, nullable=False, default=0),
    # Those of them that were accepted, the duplicates among them included.
    Column("accepted", BigInteger, nullable=False, default=0),
    # Those of them whose event id counted already.
    Column("duplicates", BigInteger, nullable=False, default=0),
    # When somebody asked for it.
    Column("requested", Instant, nullable=False),
    # When it came to its end; NULL while it is to go on.
    Column("finished", Instant),
    # Why that was before everything was considered; NULL where all was.
    Column("trouble", Text),
    Index("replays_of_stream", "stream", "finished"),
    sqlite_autoincrement=True,
)

replay_epochs = Table(
    "replay_epochs",
    metadata,
    # The stream and ...
    Column("stream", Text, ForeignKey("streams.name"), primary_key=True),
    # ... its epoch, which holds nothing but rejects that were re-admitted.
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    # The replay it belongs to.
    Column("replay", Number, ForeignKey("replays.id"), nullable=False),
    # They stand behind a reject: the epoch that rejected it, ...
    Column("after_epoch", BigInteger, nullable=False),
    # ... its partition and ...
    Column("after_partition", Integer, nullable=False),
    # ... its offset; -1 before the first.
    Column("after_offset", BigInteger, nullable=False),
    # They stand up to a reject, which may be among them: the epoch that rejected it, ...
    Column("until_epoch", BigInteger, nullable=False),
    # ... its partition and ...
    Column("until_partition", Integer, nullable=False),
    # ... its offset.
    Column("until_offset", BigInteger, nullable=False),
    # Rejects that were tried again in it.
    Column("considered", BigInteger, nullable=False),
    # Those of them that it holds.
    Column("accepted", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# a build that may still write or publish, in the words of `builds.state`
BUILDS_AT_WORK = ("building", "built", "equal", "repair")

builds = Table(
    "builds",
    metadata,
    # A number of its own; its publication is called by it too.
    Column("id", Number, primary_key=True),
    # The view and ...
    Column("view", Text, nullable=False),
    # ... the version of it that is built.
    Column("version", Text, nullable=False),
    # The stream whose master is read.
    Column("stream", Text, ForeignKey("streams.name"), nullable=False),
    # The publication of this version that was served when it began; NULL if there was none.
    Column("base", Number),
    # That one's cut; 0 without one.
    Column("base_cut", BigInteger, nullable=False),
    # What was served when it began, whatever its version: publishing is refused if it changed.
    Column("served", Number),
    # The last epoch in it.
    Column("cut", BigInteger, nullable=False),
    # Whether it folds the whole master, and not only what follows its base.
    Column("is_full", Boolean, nullable=False),
    # The token of the lease that it works under.
    Column("token", BigInteger, nullable=False),
    # building, built, equal, repair, refused, published, failed, abandoned.
    Column("state", Text, nullable=False),
    # Of the paths and hashes of its files; NULL until they are all there.
    Column("files_hash", Text),
    # Why it failed, or was refused.
    Column("message", Text),
    # When it began.
    Column("begun", Instant, nullable=False),
    # When it came to its state.
    Column("changed", Instant, nullable=False),
    # The transaction that began it.
    Column("added_state", BigInteger, nullable=False),
    # The last epoch that retention had removed from the master when it began; NULL: none.
    Column("retained", BigInteger),
    # The group key by which its view keeps groups; NULL: it keeps all of them.
    Column("bound_key", Text),
    # From when on.
    Column("bound", Instant),
    ForeignKeyConstraint(["view", "version"], ["versions.view", "versions.id"]),
    Index("builds_of_view", "view", "state"),
    sqlite_autoincrement=True,
)

proofs = Table(
    "proofs",
    metadata,
    # The build that was compared.
    Column("build", Number, ForeignKey("builds.id"), primary_key=True),
    # The files that were compared, in the words of `builds.files_hash`.
    Column("files_hash", Text, nullable=False),
    # equal, repair (the build is right, what was served is not), refused.
    Column("verdict", Text, nullable=False),
    # What was compared, how much of it, and what differed, as JSON.
    Column("evidence", Text, nullable=False),
    # When.
    Column("instant", Instant, nullable=False),
    # The transaction that recorded it.
    Column("added_state", BigInteger, nullable=False, index=True),
)

publications = Table(
    "publications",
    metadata,
    # The build that is published.
    Column("id", Number, ForeignKey("builds.id"), primary_key=True),
    # The view and ...
    Column("view", Text, nullable=False),
    # ... the version of it.
    Column("version", Text, nullable=False),
    # The stream.
    Column("stream", Text, ForeignKey("streams.name"), nullable=False),
    # Batch owns every epoch up to it.
    Column("cut", BigInteger, nullable=False),
    # build, or repair where what it replaced was wrong.
    Column("kind", Text, nullable=False),
    # When it was published.
    Column("published", Instant, nullable=False),
    # When another one took its place; NULL while it is served.
    Column("replaced", Instant),
    # When it stopped being a target of rollback, and its files stopped counting; NULL until then.
    Column("dropped", Instant),
    # The transaction that published it.
    Column("added_state", BigInteger, nullable=False),
    Index("publications_of_stream", "stream", "dropped"),
    Index("publications_of_view", "view"),
)

retentions = Table(
    "retentions",
    metadata,
    # A number of its own.
    Column("id", Number, primary_key=True),
    # The stream.
    Column("stream", Text, ForeignKey("streams.name"), nullable=False),
    # The last epoch that the one before had removed; 0 without one.
    Column("before", BigInteger, nullable=False),
    # The last epoch to remove from the master, a sealed boundary.
    Column("epoch", BigInteger, nullable=False),
    # The token of the lease that it works under.
    Column("token", BigInteger, nullable=False),
    # working, retained, refused, failed.
    Column("state", Text, nullable=False),
    # Accepted events that it removed; NULL until it has.
    Column("events", BigInteger),
    # Rejects that it removed.
    Column("rejects", BigInteger),
    # The position after `epoch`, as JSON.
    Column("position", Text, nullable=False),
    # What was compared and how much of it, as JSON; NULL until it was.
    Column("evidence", Text),
    # Why it was refused or failed.
    Column("message", Text),
    # When it began.
    Column("begun", Instant, nullable=False),
    # When it came to its state.
    Column("changed", Instant, nullable=False),
    # The transaction that began it.
    Column("added_state", BigInteger, nullable=False),
    Index("retentions_of_stream", "stream", "state"),
    sqlite_autoincrement=True,
)

view_bounds = Table(
    "view_bounds",
    metadata,
    # The view.
    Column("view", Text, primary_key=True),
    # The group key, a time, ...
    Column("key", Text, primary_key=True),
    # ... from which on its groups are kept. It only grows.
    Column("bound", Instant, nullable=False),
    # When it came to that.
    Column("instant", Instant, nullable=False),
    # The transaction that recorded it.
    Column("added_state", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

moves = Table(
    "moves",
    metadata,
    # A number of its own.
    Column("id", Number, primary_key=True),
    # The view whose pointer moved.
    Column("view", Text, nullable=False),
    # Where it stood before; NULL before the first publication.
    Column("before", Number),
    # Where it stands after.
    Column("after", Number, ForeignKey("publications.id"), nullable=False),
    # build, repair, rollback.
    Column("kind", Text, nullable=False),
    # When.
    Column("instant", Instant, nullable=False),
    # The transaction that moved it.
    Column("added_state", BigInteger, nullable=False, index=True),
)

mismatches = Table(
    "mismatches",
    metadata,
    # A number of its own.
    Column("id", Number, primary_key=True),
    # The view whose answer was counted anew and differed.
    Column("view", Text, nullable=False),
    # The epoch that the answer covered.
    Column("epoch", BigInteger, nullable=False),
    # Its cut.
    Column("cut", BigInteger, nullable=False),
    # How many groups differed.
    Column("groups", BigInteger, nullable=False),
    # When that was found.
    Column("instant", Instant, nullable=False),
    sqlite_autoincrement=True,
)
