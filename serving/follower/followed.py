"""What a follower knows: streams and views as they are registered, and how far answers are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import pyarrow as pa

from schemas.bound import Bound
from schemas.compile import CompiledView
from schemas.cut import Cut
from schemas.ledger.builds import PublicationRow
from schemas.ledger.epochs import CommittedEpoch
from schemas.ledger.succession import Succession
from schemas.ledger.versions import StreamRow, ViewRow
from schemas.observed import Mark, Observed
from schemas.position import Position, Range
from serving.coverage import Coverage, PartitionCoverage, StreamCoverage, iso, kept_from
from serving.follower import rejected
from serving.follower.handoff import Handoff
from serving.follower.raw import FollowedRaw


@dataclass(frozen=True)
class Served:
    """What a view answers from."""

    compiled: CompiledView
    publication: PublicationRow | None  # None while speed holds everything
    epoch: int  # all epochs up to it are counted
    position: Position
    instant: datetime | None
    handoff: Handoff
    bounds: tuple[Bound, ...] = ()  # from when on its groups are shown
    laid: bool = False  # whether rows of the batch are read where they lie

    @property
    def cut(self) -> Cut:
        return Cut(0 if self.publication is None else self.publication.cut)

    @property
    def identity(self) -> tuple[str, int | None, tuple[Bound, ...]]:
        publication = self.publication.id if self.publication else None
        return self.compiled.version, publication, self.bounds

    def outlived_by(self, after: Served, follows: Succession | None) -> bool:
        """Whether the merged form that this answers from is, group by group, what `after` would be
        made into, so that it can stay while the files behind it change.

        In memory is, for every group that is there, present( merge( batch(P), speed(cut P, E] ) )
        of the publication P that is served (no batch where it is None) up to the epoch E. To be
        made is that of the next publication Q, up to the same epoch. They are equal if

        - `follows` is there and names P: every partial of Q was compared with merge( P, runs of
          (cut P, cut Q] ) and is equal, P stood until Q took its place, and retention did not move
          between their builds. A repair is a difference that was found, so nothing is kept then;
        - it is the same version, else the partials mean something else;
        - the epoch and the position are the same, E, and E is not before Q's cut: what is in memory
          has every epoch that Q has, and none that Q's speed half lacks;
        - the bounds are the same. Q was proven within them, so a group before a bound may be in
          memory that is not in Q; it is not shown before or after, and a bound never goes back;
        - the files behind both have no gap and no double, or one of them counts what it should not;
        - both are in memory, or both are laid.

        Merging is associative (invariant 9), so the speed rows after Q's cut need not be told from
        those before it. Wide rows of a group that speed has not touched since P stay in files; by
        the first condition they are the same in Q's.
        """
        whole = not any((*_holes(self.handoff), *_holes(after.handoff)))
        same_epochs = (self.epoch, self.position) == (after.epoch, after.position)
        before = None if self.publication is None else self.publication.id
        return (
            follows is not None
            and follows.before == before
            and self.compiled.version == after.compiled.version
            and same_epochs
            and self.epoch >= after.cut.epoch
            and self.bounds == after.bounds
            and whole
            and self.laid == after.laid
        )

    def carries(self, epoch: CommittedEpoch) -> bool:
        """Whether its answers can move on to this epoch: the next one, with its version in it."""
        next_one = epoch.epoch == self.epoch + 1
        return next_one and (self.compiled.version in epoch.folded or not epoch.accepted)

    def advance(self, epoch: CommittedEpoch, covers: tuple[Range, ...]) -> Served:
        """After an epoch whose segments cover these offsets."""
        return replace(
            self,
            epoch=epoch.epoch,
            position=epoch.position,
            instant=epoch.instant,
            handoff=self.handoff.with_epoch(covers),
        )


@dataclass(frozen=True)
class FollowedView:
    """A registered version, and what the view answers from: the same, as a rule."""

    row: ViewRow
    compiled: CompiledView | None  # None: this release cannot serve it, `stopped` says why
    serves: Served | None = None  # None: nothing is loaded
    stopped: str | None = None  # why it stays where it is
    trouble: str | None = None  # why what is registered is not loaded; it is tried again

    def follows(self, epoch: CommittedEpoch) -> bool:
        """Whether the view's answers move on to this epoch."""
        if self.serves is None or self.stopped or not self.serves.carries(epoch):
            return False
        return self.suspended is None or epoch.epoch < self.suspended

    def carried(self, epoch: CommittedEpoch) -> bool:
        """Whether the segments of this epoch hold partials to merge."""
        served = self.serves
        return (
            served is not None and self.follows(epoch) and (served.compiled.version in epoch.folded)
        )

    def outlived_by(self, after: Served, follows: Succession | None) -> bool:
        """Whether its merged form can stay for another publication; not where it stopped, as then
        it is not known to be whole."""
        served = self.serves
        return served is not None and not self.stopped and served.outlived_by(after, follows)

    def advance(self, epoch: CommittedEpoch, covers: tuple[Range, ...]) -> FollowedView:
        """The view after an epoch; one that does not follow stays where it is."""
        if self.serves is None or not self.follows(epoch):
            return self
        return replace(self, serves=self.serves.advance(epoch, covers))

    @property
    def shown(self) -> CompiledView | None:
        """The version that answers, or is to."""
        return self.compiled if self.serves is None else self.serves.compiled

    @property
    def suspended(self) -> int | None:
        """The epoch that the version that answers was kept out of."""
        shown = self.shown
        same = shown is None or shown.version == self.row.version
        return self.row.suspended_epoch if same else None

    @property
    def since(self) -> int | None:
        """The first epoch that the version that answers counts; None: from the first on."""
        shown = self.shown
        same = shown is None or shown.version == self.row.version
        return self.row.since_epoch if same else None

    def being_built(self, epoch: int) -> bool:
        """Whether epochs up to the stream's last one are missing that no publication has."""
        # one that was kept out of the first epoch has missed none
        return self.row.suspended_epoch != 1 and self.row.being_built(epoch)

    def to_load(self, epoch: int, last: int) -> bool:
        """Whether it does not answer from what is registered, though it could. `epoch` is that of
        the stream's state, `last` the last one that is known to be there."""
        if self.compiled is None or self.being_built(last):
            return False
        wanted = (self.row.version, self.row.publication, self.row.bounds)
        if self.serves is None or self.trouble is not None or self.serves.identity != wanted:
            return True
        until = epoch if self.suspended is None else min(epoch, self.suspended - 1)
        return self.serves.epoch < until and not self.stopped


@dataclass(frozen=True)
class FollowedStream:
    """A registered stream, and how far its epochs are in the tables."""

    row: StreamRow
    goal: int  # the last epoch when it was first seen: before it, nothing is answered
    loaded: bool = False  # whether anything of it was
    epoch: int = 0
    position: Position = field(default_factory=Position)
    instant: datetime | None = None
    folded: frozenset[str] | None = None  # versions that the last epoch carries
    sealed: int = 0
    damage: str | None = None
    views: Mapping[str, FollowedView] = field(default_factory=dict)
    raw: FollowedRaw | None = None  # None before anything was loaded
    rejects: pa.Table | None = None  # the newest ones, as they are shown; None where none was
    observed: Observed = field(default_factory=Observed)  # up to `epoch`

    @property
    def ready(self) -> bool:
        return self.loaded and self.epoch >= self.goal

    @property
    def last(self) -> int:
        """The last epoch that is known to be there."""
        return max(self.epoch, self.goal)

    def advance(self, epoch: CommittedEpoch, covers: tuple[Range, ...]) -> FollowedStream:
        return replace(
            self,
            epoch=epoch.epoch,
            position=epoch.position,
            instant=epoch.instant,
            folded=epoch.folded,
            damage=None,
            observed=epoch.observed or Observed(),
            views={name: view.advance(epoch, covers) for name, view in self.views.items()},
        )

    def with_rejects(self, found: pa.Table, taken: rejected.Taken) -> FollowedStream:
        """After an epoch that rejected these, or re-admitted those."""
        known = rejected.SCHEMA.empty_table() if self.rejects is None else self.rejects
        return replace(self, rejects=rejected.marked(rejected.added(known, found), taken))

    def with_view(self, view: FollowedView) -> FollowedStream:
        return replace(self, views={**self.views, view.row.name: view})

    def to_load(self) -> list[str]:
        return [name for name, view in self.views.items() if view.to_load(self.epoch, self.last)]

    def waits(self, view: FollowedView) -> str | None:
        """Why a view is not to be asked, as what follows its name."""
        if view.serves is None:
            if view.stopped:
                return f"is not ready: {view.stopped}"
            if view.suspended is not None and view.being_built(self.last):
                return f"is not ready: suspended: {view.row.suspended_message}"
            if view.being_built(self.last):
                return f"is being built: run `everview rebuild {view.row.name}`"
            if view.trouble or self.damage:
                return f"is not ready: {view.trouble or self.damage}"
        if view.serves is None or not self.ready:
            return f"is not ready: epoch {self.epoch} is loaded, not yet what was committed before"
        return None

    def degraded(self, view: FollowedView) -> str | None:
        """Why a view's answers stay behind, or do not count everything."""
        served = view.serves
        if view.stopped:
            return view.stopped
        if view.suspended is not None and (served is None or self.epoch >= view.suspended):
            return f"suspended at epoch {view.suspended}: {view.row.suspended_message}"
        if self.damage:
            return self.damage
        if self.row.stopped:
            return f"its stream stopped: {self.row.stopped}"
        if view.trouble:
            what = f"publication {view.row.publication}" if view.row.publication else "it"
            return f"{what} is not loaded: {view.trouble}"
        if served is None:
            return self.waits(view)
        if served.epoch < self.epoch:
            return f"epoch {served.epoch + 1} does not carry version {served.compiled.version}"
        if served.handoff.gaps or served.handoff.doubles:
            return (
                f"its files leave out {served.handoff.gaps} offsets and hold "
                f"{served.handoff.doubles} twice; see everview.handoff"
            )
        return None

    def coverage(self) -> Iterator[Coverage]:
        for view in self.views.values():
            yield self._coverage(view)

    def _coverage(self, view: FollowedView) -> Coverage:
        served = view.serves
        waits, degraded = self.waits(view), self.degraded(view)
        if served is None:
            return Coverage(
                view=view.row.name,
                version=view.row.version,
                stream=self.row.name,
                cut=0,
                epoch=0,
                position={},
                fresh_as_of=None,
                degraded=degraded,
                waits=waits,
                since=view.row.since_epoch,
            )
        publication, handoff = served.publication, served.handoff
        return Coverage(
            view=view.row.name,
            version=served.compiled.version,
            stream=self.row.name,
            cut=served.cut.epoch,
            epoch=served.epoch,
            position=served.position.json(),
            fresh_as_of=iso(served.instant),
            degraded=degraded,
            waits=waits,
            publication=publication.id if publication else None,
            published=iso(publication.published) if publication else None,
            batch_epochs=handoff.batch_epochs,
            speed_epochs=handoff.speed_epochs,
            gaps=handoff.gaps,
            doubles=handoff.doubles,
            laid=served.laid,
            lost=self.row.lost_below(served.position),
            since=view.since,
            kept_from=kept_from(served.bounds, served.compiled.time_keys),
        )

    @property
    def _raw_waits(self) -> str | None:
        """Why its events are not to be asked for."""
        if self.raw is None or not self.ready:
            why = self.damage or f"epoch {self.epoch} is loaded, not yet what was committed before"
            return f"is not ready: {why}"
        return self.raw.waits

    def told(self) -> StreamCoverage:
        partitions = sorted(self.position.offsets.keys() | self.observed.marks.keys())
        newest = [mark.newest for mark in self.observed.marks.values() if mark.newest is not None]
        return StreamCoverage(
            stream=self.row.name,
            topic=self.row.topic,
            version=self.row.version,
            epoch=self.epoch,
            sealed=self.sealed,
            position=self.position.json(),
            fresh_as_of=iso(self.instant),
            degraded=self.damage or self.row.stopped,
            lost=self.row.lost_below(self.position),
            keyed=self.raw is not None and self.raw.keyed,
            files_until=0 if self.raw is None else self.raw.until,
            raw_since=self.raw.retained + 1 if self.raw and self.raw.retained else None,
            raw_waits=self._raw_waits,
            newest_event=max(newest, default=None),
            low_watermark=self.observed.lowest(partitions),
            partitions=[self._partition(each) for each in partitions],
        )

    def _partition(self, partition: int) -> PartitionCoverage:
        mark = self.observed.marks.get(partition, Mark())
        return PartitionCoverage(
            stream=self.row.name,
            partition=partition,
            newest_event=mark.newest,
            low_watermark=self.observed.low(partition),
            read_to=mark.read_to,
            newest_record=mark.stamped,
            epoch=self.epoch,
            fresh_as_of=iso(self.instant),
        )


def _holes(handoff: Handoff) -> tuple[int, int]:
    return handoff.gaps, handoff.doubles
