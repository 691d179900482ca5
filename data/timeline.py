"""What each session of a stream is about, worked out from the requests and the classes' names alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from utils.errors import DataError, nearest
from utils.requests import ForgetRequest, HybridClasses, LearnRequest

Known = str | Sequence[str]


@dataclass(frozen=True)
class Catalogue:
    """The classes that a stream may be about.

    Attributes:
        name: of the data set, for messages.
        pool: fine names in class order.
        parents: fine name → coarse name.
        aliases: fine name → other names of the same class; a request may use them.
    """

    name: str
    pool: Sequence[str]
    parents: Mapping[str, str]
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def fine(self, names: Iterable[str], asking: str) -> tuple[str, ...]:
        """Names or aliases as the names of classes.

        Raises:
            DataError: there is no such class; the message starts with `asking`.
        """
        return self._those(names, self._fine, asking, "class")

    def coarse(self, names: Iterable[str], asking: str) -> tuple[str, ...]:
        """The same for parents, which have no aliases."""
        return self._those(names, self._coarse, asking, "coarse class")

    @cached_property
    def _fine(self) -> dict[str, str]:
        """What a class may be called → its name; an alias counts where one class alone bears it."""
        bearers: dict[str, list[str]] = {}
        for name in self.pool:
            for alias in self.aliases.get(name, ()):
                bearers.setdefault(alias, []).append(name)
        real = {alias: owners[0] for alias, owners in bearers.items() if len(owners) == 1}
        return real | {name: name for name in self.pool}

    @cached_property
    def _coarse(self) -> dict[str, str]:
        return {parent: parent for parent in self.parents.values()}

    def _those(self, names: Iterable[str], real: Mapping[str, str], asking: str, what: str) -> tuple[str, ...]:
        names = list(names)
        for name in names:
            if name not in real:
                raise DataError(f"{asking} '{name}', but '{self.name}' has no such {what}{nearest(name, real)}")
        return tuple(dict.fromkeys(real[name] for name in names))


@dataclass(frozen=True)
class Step:
    """One session by names.

    Attributes:
        request: what is asked.
        classes: the fine classes it is about, in label order.
        coarse: the parents that a forget request names, in label order.
        seen: the classes known or ever learned by its end, in label order.
        alive: those of them that the model is to know after it, in label order.
        missing: the first of these, of which a forget request shows no image although it shows some of the others.
    """

    request: LearnRequest | ForgetRequest
    classes: tuple[str, ...]
    coarse: tuple[str, ...]
    seen: tuple[str, ...]
    alive: tuple[str, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timeline:
    """A whole stream by names: the classes known from the start, in class order, and its sessions."""

    known: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every class of the stream; a class's label is its place here."""
        return self.steps[-1].seen if self.steps else self.known


@dataclass(frozen=True)
class _Wish:
    """What a request names, its names checked; a count stays a count."""

    request: LearnRequest | ForgetRequest
    fine: int | tuple[str, ...]
    coarse: int | tuple[str, ...]

    @property
    def learns(self) -> bool:
        return isinstance(self.request, LearnRequest)


def timeline(requests: Sequence[LearnRequest | ForgetRequest], catalogue: Catalogue, known: Known = "auto") -> Timeline:
    """Follow a stream of requests.

    A count to learn takes the next classes of the pool that were never seen, without those that a request teaches by
    name before any asks to forget them; a count to forget takes the first classes (or parents) alive, in label order,
    or the last ones where the request says so.
    A class that was forgotten keeps its label, and may be learned again by name.

    Args:
        requests: the stream.
        catalogue: the classes.
        known: which classes the model knows before the stream: "none", "rest" (all that no session teaches it first),
            "auto" ("rest" where the stream starts with a forget request, else "none"), or their names.

    Raises:
        DataError: an unknown name, a class learned twice, forgotten twice or never known, or a count beyond what is
            there; the message names the session.
    """
    wishes = [_wish(index, request, catalogue) for index, request in enumerate(requests)]
    taught = _taught_by_name(wishes, catalogue)
    start = _known(known, wishes, taught, catalogue)
    walk = _Walk(catalogue, taught, start)
    return Timeline(start, tuple(walk.step(index, wish) for index, wish in enumerate(wishes)))


def _wish(index: int, request: LearnRequest | ForgetRequest, catalogue: Catalogue) -> _Wish:
    if isinstance(request, LearnRequest):
        levels, verb = {"fine": request.classes}, "learn"
    else:
        hybrid = isinstance(request.classes, HybridClasses)
        levels, verb = dict(request.classes) if hybrid else {request.level: request.classes}, "forget"
    fine, coarse = levels.get("fine") or (), levels.get("coarse") or ()
    asking = f"session {index} asks to {verb}"
    return _Wish(
        request,
        fine if isinstance(fine, int) else catalogue.fine(fine, asking),
        coarse if isinstance(coarse, int) else catalogue.coarse(coarse, asking),
    )


def _known(known: Known, wishes: Sequence[_Wish], taught: set[str], catalogue: Catalogue) -> tuple[str, ...]:
    """The classes known from the start, in class order."""
    if known == "auto":
        known = "rest" if wishes and not wishes[0].learns else "none"
    if known == "none":
        return ()
    if known == "rest":
        named = set(catalogue.pool) - _taught_first(wishes, taught, catalogue)
    else:
        named = set(catalogue.fine(known, "key 'known' names"))
    return tuple(name for name in catalogue.pool if name in named)


def _taught_by_name(wishes: Sequence[_Wish], catalogue: Catalogue) -> set[str]:
    """The classes of which the stream first speaks, by their name or their parent's, to teach them."""
    taught: set[str] = set()
    forgotten: set[str] = set()
    for wish in wishes:
        if wish.learns:
            taught |= _spoken_of(wish, catalogue) - forgotten
        else:
            forgotten |= _spoken_of(wish, catalogue) - taught
    return taught


def _taught_first(wishes: Sequence[_Wish], taught: set[str], catalogue: Catalogue) -> set[str]:
    """The classes that the stream learns, by name or by count, before it speaks of forgetting them."""
    new = set(taught)
    forgotten: set[str] = set()
    for wish in wishes:
        if not wish.learns:
            forgotten |= _spoken_of(wish, catalogue)
        elif isinstance(wish.fine, int):
            taken = new | forgotten
            new |= set([name for name in catalogue.pool if name not in taken][: wish.fine])
    return new


def _spoken_of(wish: _Wish, catalogue: Catalogue) -> set[str]:
    fine, parents = ((() if isinstance(names, int) else names) for names in (wish.fine, wish.coarse))
    return {*fine, *(name for name in catalogue.pool if catalogue.parents[name] in parents)}


class _Walk:
    """Where a stream stands: what has been seen, since when, and which session made what forgotten."""

    def __init__(self, catalogue: Catalogue, taught: set[str], known: Iterable[str]):
        self.catalogue, self.taught = catalogue, taught
        self.seen = dict.fromkeys(known, "from the start (key 'known')")
        self.gone: dict[str, int] = {}

    def step(self, index: int, wish: _Wish) -> Step:
        """Take one session."""
        coarse: tuple[str, ...] = ()
        if wish.learns:
            classes = self._learn(index, wish.fine)
        else:
            end = wish.request.take
            coarse = self._parents(index, wish.coarse, end)
            classes = {*self._forget(index, wish.fine, end), *(n for n in self._alive() if self._parent(n) in coarse)}
            self.gone |= dict.fromkeys(classes, index)
        wanted = set(classes)
        in_order = tuple(name for name in self.seen if name in wanted)
        alive = tuple(self._alive())
        missing = () if wish.learns else self._missing(index, wish.request.missing, alive)
        return Step(wish.request, in_order, coarse, tuple(self.seen), alive, missing)

    @staticmethod
    def _missing(index: int, count: int, alive: Sequence[str]) -> tuple[str, ...]:
        if count and count >= len(alive):
            raise DataError(
                f"session {index} leaves {len(alive)} classes, and of {count} it is to show no image (key 'missing'); "
                "lower it, for some must be shown"
            )
        return tuple(alive[:count])

    def _alive(self) -> list[str]:
        return [name for name in self.seen if name not in self.gone]

    def _parent(self, name: str) -> str:
        return self.catalogue.parents[name]

    def _learn(self, index: int, wanted: int | tuple[str, ...]) -> tuple[str, ...]:
        names = self._next(index, wanted) if isinstance(wanted, int) else wanted
        for name in names:
            if name in self.seen and name not in self.gone:
                raise DataError(
                    f"session {index} asks to learn '{name}', which is known already, {self.seen[name]}; "
                    "drop it there, or forget it in between"
                )
        for name in names:
            self.seen[name] = f"since session {index}"
            self.gone.pop(name, None)
        return names

    def _next(self, index: int, count: int) -> tuple[str, ...]:
        free = [name for name in self.catalogue.pool if name not in self.seen and name not in self.taught]
        if count > len(free):
            raise DataError(
                f"session {index} asks for {count} new classes, but only {len(free)} of the "
                f"{len(self.catalogue.pool)} of '{self.catalogue.name}' are left; ask for fewer"
            )
        return tuple(free[:count])

    def _forget(self, index: int, wanted: int | tuple[str, ...], end: str) -> tuple[str, ...]:
        alive = self._alive()
        if isinstance(wanted, int):
            return self._so_many(index, wanted, alive, end, "fine")
        for name in wanted:
            if name not in alive:
                raise self._not_there(index, name, [name])
        return wanted

    def _parents(self, index: int, wanted: int | tuple[str, ...], end: str) -> tuple[str, ...]:
        """The parents to forget, in label order; each has a child that is alive."""
        alive = list(dict.fromkeys(self._parent(name) for name in self._alive()))
        if isinstance(wanted, int):
            return self._so_many(index, wanted, alive, end, "coarse")
        for parent in wanted:
            if parent not in alive:
                raise self._not_there(index, parent, [n for n in self.seen if self._parent(n) == parent])
        order = dict.fromkeys(self._parent(name) for name in self.seen)
        return tuple(parent for parent in order if parent in wanted)

    @staticmethod
    def _so_many(index: int, count: int, alive: Sequence[str], end: str, level: str) -> tuple[str, ...]:
        if count > len(alive):
            raise DataError(
                f"session {index} asks to forget {count} {level} classes, but only {len(alive)} are known by then; "
                "ask for fewer"
            )
        return tuple(alive[:count] if end == "first" else alive[-count:])

    def _not_there(self, index: int, name: str, classes: Iterable[str]) -> DataError:
        """The error for a class, or a parent of classes, of which nothing is alive."""
        forgotten = [self.gone[each] for each in classes if each in self.gone]
        if forgotten:
            return DataError(
                f"session {index} asks to forget '{name}', which session {max(forgotten)} has made the model forget "
                "already; drop it there, or learn it again in between"
            )
        return DataError(
            f"session {index} asks to forget '{name}', which is not known by then; "
            "learn it in an earlier session, or name it under 'known'"
        )
