"""Every error that everview raises on purpose, with its facts.

A message says subject, must, got, and what to do next; the facts stay readable as attributes so
that a caller never parses text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas import excerpt


class EverviewError(Exception):
    """The root of all errors raised on purpose."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong in a definition: its place (line, column from 1) and the text.

    `length` counts the characters that are wrong, `source` is the line that they stand in, where it
    is known. `about` names a definition that cannot be read at all, so that nothing is said of what
    reads from it.
    """

    file: str
    line: int
    column: int
    message: str
    length: int = field(default=1, compare=False)
    source: str | None = field(default=None, compare=False, repr=False)
    about: str = field(default="", compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"

    def shown(self, width: int = excerpt.WIDTH) -> str:
        """The problem with its line and carets under the place."""
        if self.source is None:
            return str(self)
        under = excerpt.of(self.source, self.line, self.column, self.length, width)
        return f"{self}\n{under}"


class DefinitionError(EverviewError):
    """Definitions that cannot be accepted; lists every problem found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(problem.shown() for problem in self.problems))


class DamagedFile(EverviewError):
    """A file that the ledger names is missing, cut or changed."""

    def __init__(self, path: str, expected: str, found: str) -> None:
        self.path, self.expected, self.found = path, expected, found
        text = (
            f"file {path!r} must be {expected}; got {found}. "
            "Restore the file from a backup, or rebuild what it belongs to"
        )
        super().__init__(text)


class LedgerMissing(EverviewError):
    """There is no ledger in a state folder."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"no ledger at {path!r}; run `everview deploy` or `everview up` first")


class LedgerTooNew(EverviewError):
    """The ledger was written by a newer release."""

    def __init__(self, path: str, known: int, found: int) -> None:
        self.path, self.known, self.found = path, known, found
        text = (
            f"ledger {path!r} must have at most migration {known}; got {found}. "
            "Use the newer release that wrote it; nothing was changed"
        )
        super().__init__(text)


class LeaseHeld(EverviewError):
    """Somebody else writes."""

    def __init__(self, name: str, host: str, pid: int, token: int, expires: str) -> None:
        self.name, self.host, self.pid, self.token, self.expires = name, host, pid, token, expires
        text = (
            f"lease {name!r} is held by process {pid} on host {host!r} (token {token}) "
            f"until {expires}. Stop that process, or wait until the lease ends"
        )
        super().__init__(text)


class StaleToken(EverviewError):
    """A writer that lost its lease tried to commit."""

    def __init__(self, name: str, token: int, current: int | None) -> None:
        self.name, self.token, self.current = name, token, current
        text = f"lease {name!r} must be held under token {token} to commit; it is at {current}"
        super().__init__(text)


class RangeNotContiguous(EverviewError):
    """A range does not start where the committed ones of its partition end."""

    def __init__(self, partition: int, expected: int, start: int) -> None:
        self.partition, self.expected, self.start = partition, expected, start
        text = f"range of partition {partition} must start at offset {expected}; got {start}"
        super().__init__(text)


class EpochNotNext(EverviewError):
    """An epoch's number or instant does not follow the last committed one."""

    def __init__(self, stream: str, expected: str, found: str) -> None:
        self.stream, self.expected, self.found = stream, expected, found
        super().__init__(f"epoch of stream {stream!r} must be {expected}; got {found}")


class VersionsDiffer(EverviewError):
    """An epoch was folded for other versions than those registered when it commits."""

    def __init__(self, stream: str, registered: Sequence[str], folded: Sequence[str]) -> None:
        self.stream = stream
        self.registered, self.folded = tuple(registered), tuple(folded)
        text = (
            f"epoch of stream {stream!r} must be folded for versions {sorted(registered)}; "
            f"got {sorted(folded)}. The epoch is planned anew"
        )
        super().__init__(text)


class ReplayMoved(EverviewError):
    """A part of a replay does not begin where the replay stands."""

    def __init__(self, stream: str, replay: int, part: str, found: str) -> None:
        self.stream, self.replay = stream, replay
        text = f"replay {replay} of stream {stream!r} must go on behind {found}; got {part}"
        super().__init__(text)


class TopicRecreated(EverviewError):
    """A topic is not the one whose events were counted."""

    def __init__(self, stream: str, topic: str, expected: str, found: str) -> None:
        self.stream, self.topic, self.expected, self.found = stream, topic, expected, found
        text = (
            f"topic {topic!r} of stream {stream!r} must have id {expected}; got {found}: it was "
            "deleted and created again. Declare a new stream for it; nothing was read"
        )
        super().__init__(text)


class OffsetsGone(EverviewError):
    """Kafka no longer has offsets that were not read yet; `missing` has (partition, start, until)
    of each range."""

    def __init__(self, stream: str, missing: Sequence[tuple[int, int, int]]) -> None:
        self.stream, self.missing = stream, tuple(missing)
        listed = " and ".join(
            f"{start}..{until - 1} of partition {partition}" for partition, start, until in missing
        )
        text = (
            f"stream {stream!r}: offsets {listed} are gone from Kafka before they were read. The "
            "stream stops rather than lose them in silence. If nobody can send those events again, "
            f"`everview accept-loss {stream}` records the loss and lets it go on"
        )
        super().__init__(text)


class LedgerTaken(EverviewError):
    """A ledger was to be written where there is one."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"there must be no ledger at {path!r}; there is one. Nothing was written")


class BackupRefused(EverviewError):
    """A backup that cannot be taken, or restored, there; the text says why."""


class RestoreRefused(EverviewError):
    """A ledger that cannot be restored there, or not now; the text says why."""


class RepairRefused(EverviewError):
    """A file that cannot take the place of a damaged one."""

    def __init__(self, path: str, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"repair {path!r} is refused: {why}. Nothing was changed")


class OffsetsNotThere(EverviewError):
    """Offsets that a repair needs and the log does not have (partition, first, behind the last)."""

    def __init__(
        self, stream: str, topic: str, why: str, missing: Sequence[tuple[int, int, int]]
    ) -> None:
        self.stream, self.missing = stream, tuple(missing)
        listed = ", ".join(f"{start}..{until - 1} of partition {p}" for p, start, until in missing)
        text = (
            f"topic {topic!r} of stream {stream!r} must have offsets {listed}; {why}. Restore the "
            "file from a backup; batch views and runs still hold the sums of its events"
        )
        super().__init__(text)


class NothingLost(EverviewError):
    """A loss was to be accepted, and none is known."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        text = (
            f"stream {stream!r} must have stopped because offsets are gone from Kafka; it has not. "
            "Nothing was recorded"
        )
        super().__init__(text)


class PartialsOfAnotherEngine(EverviewError):
    """Partials that rest on another `hash()` than this engine's."""

    def __init__(self, version: str, expected: str, found: str) -> None:
        self.version, self.expected, self.found = version, expected, found
        text = (
            f"partials of version {version!r} must have hash probe {expected}; got {found}. "
            "They are not merged; deploy again to rebuild the view with this release"
        )
        super().__init__(text)


class RangeInvalid(EverviewError):
    """A range or a position that no log can have."""

    def __init__(self, partition: int, found: str) -> None:
        self.partition, self.found = partition, found
        text = f"partition {partition} must have offsets from 0 up, start <= until; got {found}"
        super().__init__(text)


class CutInvalid(EverviewError):
    """A cut below 0, where no epoch can be."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        super().__init__(f"cut must be an epoch number, 0 for none; got {epoch}")


class PathOutsideRoot(EverviewError):
    """A path that does not stay inside the data root."""

    def __init__(self, path: str) -> None:
        self.path = path
        text = (
            f"path {path!r} must be relative to the data root, its parts separated by '/', none of "
            "them empty, '.' or '..'; got another. Nothing was read or written"
        )
        super().__init__(text)


class FileTaken(EverviewError):
    """A file of that name exists with other content; files are never overwritten."""

    def __init__(self, path: str) -> None:
        self.path = path
        text = f"file {path!r} must not exist, or hold the same bytes; got a different file"
        super().__init__(text)


class NaiveInstant(EverviewError):
    """An instant without a time zone."""

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(f"instant must carry a time zone, such as UTC; got {found}")


class LedgerBusy(EverviewError):
    """Somebody keeps the ledger's write lock for too long."""

    def __init__(self, path: str, seconds: float) -> None:
        self.path, self.seconds = path, seconds
        text = (
            f"ledger {path!r} must be free for writing within {seconds:g} s; another process still "
            "holds its lock. Nothing was changed; try again, or find the open transaction"
        )
        super().__init__(text)


class LedgerUnwritable(EverviewError):
    """The disk does not take what the ledger has to keep: full, read-only, failing."""

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        text = (
            f"ledger {path!r} must be on a disk that can be written; got {reason!r}. "
            "The transaction was left out; make room or make the folder writable, then try again"
        )
        super().__init__(text)


class StreamUnknown(EverviewError):
    """A stream that no `deploy` registered."""

    def __init__(self, stream: str, known: Sequence[str]) -> None:
        self.stream, self.known = stream, tuple(known)
        text = f"stream {stream!r} must be one of {sorted(known)}; deploy its declaration first"
        super().__init__(text)


class FailpointInvalid(EverviewError):
    """A failpoint is set that must not be, or that nobody understands."""

    def __init__(self, expected: str, found: str) -> None:
        self.expected, self.found = expected, found
        super().__init__(f"EVERVIEW_FAILPOINTS must be {expected}; got {found!r}")


class StackRunning(EverviewError):
    """A second supervisor on one state."""

    def __init__(self, state: str, pid: str) -> None:
        self.state, self.pid = state, pid
        text = (
            f"state {state!r} must have one supervisor; process {pid} runs it. "
            "Use that one, stop it with `everview down`, or choose another --state"
        )
        super().__init__(text)


class StackNotRunning(EverviewError):
    """A verb needs a part of a running stack."""

    def __init__(self, state: str, part: str) -> None:
        self.state, self.part = state, part
        super().__init__(f"{part} of state {state!r} must be running; it is not. Run `everview up`")


class BrokerUnreachable(EverviewError):
    """No Kafka broker answers at an address."""

    def __init__(self, servers: str, reason: str) -> None:
        self.servers, self.reason = servers, reason
        text = (
            f"Kafka at {servers!r} must answer; {reason}. "
            "Check host and port, that the broker runs, and that its listener is PLAINTEXT"
        )
        super().__init__(text)


class BadUse(EverviewError):
    """A command line, a setting or an input that cannot be meant."""


class JarsNotReady(EverviewError):
    """The jars of Kafka or of its connector are missing, or are not the locked ones."""

    def __init__(self, folder: str, difference: str) -> None:
        self.folder, self.difference = folder, difference
        text = (
            f"jars in {folder!r} must be those of jars.lock; got: {difference}. "
            "Run `make setup`, or `python -m infra.jars` where everview is installed as a package"
        )
        super().__init__(text)


class JarsNotFetched(EverviewError):
    """Jars could not be fetched, or others came than those locked."""


class RecordsOutsideRange(EverviewError):
    """A task read records that its epoch does not cover, or that another task of it read too."""

    def __init__(
        self, stream: str, partition: int, start: int, until: int, first: int, last: int
    ) -> None:
        self.stream, self.partition, self.start, self.until = stream, partition, start, until
        self.first, self.last = first, last
        text = (
            f"records of stream {stream!r}, partition {partition}, must have offsets in "
            f"{start}..{until - 1}, each in one task; got {first}..{last}. The epoch is left"
        )
        super().__init__(text)


class TopicMissing(EverviewError):
    """A stream's topic is not on the broker."""

    def __init__(self, stream: str, topic: str) -> None:
        self.stream, self.topic = stream, topic
        text = (
            f"topic {topic!r} of stream {stream!r} must exist; the broker has none of that name. "
            "Create it, or start streaming with --create-topics"
        )
        super().__init__(text)


class SparkGone(EverviewError):
    """Spark's JVM ended under the driver."""

    def __init__(self) -> None:
        super().__init__("the Spark JVM must run as long as its driver; it is gone. Start again")


class VersionOfAnotherRelease(EverviewError):
    """A registered definition no longer means what it meant when it was registered."""

    def __init__(self, kind: str, name: str, registered: str, now: str) -> None:
        self.kind, self.name, self.registered, self.now = kind, name, registered, now
        text = (
            f"{kind} {name!r} must have version {registered}, as registered; this release makes it "
            f"{now}. Its partials are not merged with others; use the release that registered it"
        )
        super().__init__(text)


class DeployRefused(EverviewError):
    """A project that cannot be registered on this state, with the reason for each definition."""

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("\n".join([*self.reasons, "Nothing was registered"]))


class SettingRefused(EverviewError):
    """DuckDB does not run under a setting that clients' statements need it to have."""

    def __init__(self, setting: str, expected: str, found: str) -> None:
        self.setting, self.expected, self.found = setting, expected, found
        text = f"setting {setting!r} must be {expected!r}; got {found!r}. Nothing is served"
        super().__init__(text)


class NotConfined(EverviewError):
    """A process could not give up what it must before it runs clients' statements."""

    def __init__(self, layer: str, reason: str) -> None:
        self.layer, self.reason = layer, reason
        text = f"layer {layer!r} of a worker must hold; got: {reason}. It runs nothing"
        super().__init__(text)


class ViewFailed(EverviewError):
    """A view's partials cannot be merged; what was tried was undone."""

    def __init__(self, view: str, message: str) -> None:
        self.view, self.message = view, message
        super().__init__(f"partials of view {view!r} must merge; got: {message}")


class TopicNotThere(EverviewError):
    """A topic that events are to be sent to does not exist."""

    def __init__(self, topic: str, servers: str) -> None:
        self.topic, self.servers = topic, servers
        text = (
            f"topic {topic!r} must exist on {servers}; the broker has none of that name. "
            "On everview's own broker `everview up` creates it; on another one, create it"
        )
        super().__init__(text)


class EpochsMoved(EverviewError):
    """A stream went on between the plan of a registration and the registration."""

    def __init__(self, stream: str, expected: int, found: int) -> None:
        self.stream, self.expected, self.found = stream, expected, found
        text = (
            f"stream {stream!r} must be at epoch {expected}, as when the change was planned; got "
            f"epoch {found}. Nothing was registered; run `everview deploy` again"
        )
        super().__init__(text)


class NameTaken(EverviewError):
    """A name that is registered in other case."""

    def __init__(self, kind: str, name: str, registered: str) -> None:
        self.kind, self.name, self.registered = kind, name, registered
        text = (
            f"{kind} {name!r} is registered as {registered!r}, and names that differ by case alone "
            "are one name. Nothing was registered; write it as it is registered"
        )
        super().__init__(text)


class EpochIncomplete(EverviewError):
    """The tasks of an epoch did not write every event that they read."""

    def __init__(self, stream: str, epoch: int, found: str) -> None:
        self.stream, self.epoch, self.found = stream, epoch, found
        text = (
            f"epoch {epoch} of stream {stream!r} must hold every event that its tasks read; "
            f"got {found}. The epoch is left"
        )
        super().__init__(text)


class SealingNotNext(EverviewError):
    """Epochs or ranges that cannot be sealed or merged as they were chosen."""

    def __init__(self, stream: str, expected: str, found: str) -> None:
        self.stream, self.expected, self.found = stream, expected, found
        text = (
            f"sealing of stream {stream!r} must be of {expected}; got {found}. "
            "Nothing was changed; it is chosen anew"
        )
        super().__init__(text)


class ViewUnknown(EverviewError):
    """A view that no `deploy` registered."""

    def __init__(self, view: str, known: Sequence[str]) -> None:
        self.view, self.known = view, tuple(known)
        there = ", ".join(sorted(known)) or "none yet"
        super().__init__(f"view {view!r} must be a registered one; there is: {there}")


class ViewMoved(EverviewError):
    """A view that is to count another stream than the one whose epochs it has."""

    def __init__(self, view: str, stream: str, other: str) -> None:
        self.view, self.stream, self.other = view, stream, other
        text = (
            f"view {view!r} must stay over stream {stream!r}, whose epochs it counts; got "
            f"{other!r}. Nothing was registered; declare it under another name"
        )
        super().__init__(text)


class VersionSuspended(EverviewError):
    """A version with an error in its own expressions, which cannot be built past it."""

    def __init__(self, view: str, version: str, epoch: int, message: str) -> None:
        self.view, self.version, self.epoch, self.message = view, version, epoch, message
        text = (
            f"version {version!r} of view {view!r} must not be suspended to be built; it is, since "
            f"epoch {epoch}: {message}. Correct its definition and deploy it"
        )
        super().__init__(text)


class NothingSealed(EverviewError):
    """No sealed boundary that a batch view could be cut at."""

    def __init__(self, view: str, least: int) -> None:
        self.view, self.least = view, least
        text = (
            f"view {view!r} must be cut at a sealed epoch from {max(least, 1)} on; there is none "
            "in reach. Streaming seals about every minute; let it run, or give a later --until"
        )
        super().__init__(text)


class NothingToBuild(EverviewError):
    """The served publication has the cut that a build would have."""

    def __init__(self, view: str, cut: int) -> None:
        self.view, self.cut = view, cut
        text = (
            f"view {view!r} is published up to epoch {cut} already and nothing is sealed after it; "
            "there is nothing to build. --full builds it anew from the whole master"
        )
        super().__init__(text)


class CutGoesBack(EverviewError):
    """A build that would end before what is served."""

    def __init__(self, view: str, served: int, cut: int) -> None:
        self.view, self.served, self.cut = view, served, cut
        text = (
            f"cut of view {view!r} must not go back: it is served up to epoch {served}; got {cut}. "
            "Use `everview rollback` for an older publication"
        )
        super().__init__(text)


class BuildUnknown(EverviewError):
    """A number that no build has."""

    def __init__(self, build: int) -> None:
        self.build = build
        super().__init__(f"build {build} must be in the ledger; there is none of that number")


class BuildNotReady(EverviewError):
    """A step of a build out of order."""

    def __init__(self, build: int, view: str, expected: str, found: str) -> None:
        self.build, self.view, self.expected, self.found = build, view, expected, found
        text = (
            f"build {build} of view {view!r} must be {expected}; it is {found}. "
            "Begin another one with `everview rebuild`"
        )
        super().__init__(text)


class PublicationMoved(EverviewError):
    """What is served is not what it was when a build began."""

    def __init__(self, build: int, view: str, expected: int | None, found: int | None) -> None:
        self.build, self.view, self.expected, self.found = build, view, expected, found
        text = (
            f"build {build} of view {view!r} must take the place of publication {expected}; "
            f"{found} is served by now. It is not published; begin another one"
        )
        super().__init__(text)


class PublicationUnknown(EverviewError):
    """A publication that cannot be gone back to."""

    def __init__(self, view: str, publication: int | None, kept: Sequence[int]) -> None:
        self.view, self.publication, self.kept = view, publication, tuple(kept)
        there = ", ".join(map(str, kept)) or "none"
        if publication is None:
            text = f"there is no earlier publication of view {view!r} to go back to"
        else:
            text = (
                f"publication of view {view!r} to go back to must be one that is kept, and not the "
                f"served one; got {publication}"
            )
        super().__init__(f"{text}; others kept: {there}. `everview versions {view}` lists them")


class GapBetweenLayers(EverviewError):
    """Epochs that neither the batch view nor the runs after it hold."""

    def __init__(self, view: str, cut: int, first: int, last: int) -> None:
        self.view, self.cut, self.first, self.last = view, cut, first, last
        text = (
            f"view {view!r} must have partials of every epoch after its cut {cut}; got none of "
            f"epochs {first}..{last}. Build it anew: `everview rebuild {view} --full`"
        )
        super().__init__(text)


class MasterIncomplete(EverviewError):
    """The master's files do not hold every epoch of a build."""

    def __init__(self, stream: str, first: int, last: int) -> None:
        self.stream, self.first, self.last = stream, first, last
        text = (
            f"master of stream {stream!r} must hold every sealed epoch; none of its files has "
            f"epochs {first}..{last}. Restore them from a backup; nothing was built"
        )
        super().__init__(text)


class RetentionMoved(EverviewError):
    """A build that began before retention removed more of the master."""

    def __init__(self, build: int, view: str, expected: int, found: int) -> None:
        self.build, self.view, self.expected, self.found = build, view, expected, found
        text = (
            f"build {build} of view {view!r} must be of a master without epochs up to {expected}; "
            f"retention has removed those up to {found} by now. It is not published; begin another "
            f"one with `everview rebuild {view}`"
        )
        super().__init__(text)


class RetentionNotNext(EverviewError):
    """A retention that cannot be committed, as something changed while it worked."""

    def __init__(self, stream: str, expected: str, found: str) -> None:
        self.stream, self.expected, self.found = stream, expected, found
        text = (
            f"retention of stream {stream!r} must find {expected}; got {found}. Nothing was "
            "removed; try again with `everview retain`"
        )
        super().__init__(text)


class RetentionRefused(EverviewError):
    """Bases that are not what was published; nothing was removed."""

    def __init__(self, stream: str, epoch: int, differences: Sequence[str]) -> None:
        self.stream, self.epoch, self.differences = stream, epoch, tuple(differences)
        listed = "\n  ".join(differences)
        text = (
            f"base of stream {stream!r} up to epoch {epoch}, with the master after it, must equal "
            "what is published; it differs. Nothing was removed; `everview rebuild --all --full` "
            f"counts all of the master anew and says which of them is wrong:\n  {listed}"
        )
        super().__init__(text)


class BuildRefused(EverviewError):
    """A build whose proof failed; what was served still is."""

    def __init__(self, build: int, view: str, differences: Sequence[str]) -> None:
        self.build, self.view, self.differences = build, view, tuple(differences)
        listed = "\n  ".join(differences)
        text = (
            f"build {build} of view {view!r} must equal what was counted before; it differs and is "
            f"not published, what was served still is. `everview rebuild {view} --full` counts all "
            f"of the master anew:\n  {listed}"
        )
        super().__init__(text)


class BuildFailed(EverviewError):
    """A build that could not be made."""

    def __init__(self, view: str, reason: str) -> None:
        self.view, self.reason = view, reason
        text = (
            f"batch view of {view!r} must be built from its files; got: {reason}. "
            "Nothing was published, what was served still is"
        )
        super().__init__(text)


class SealingFailed(EverviewError):
    """What a task that seals met; the text is that of the error there."""
