"""Does the map go where the text points? The pointing game on texts with boxes, and texts about absent things.

A text *hits* where the largest value of its map lies in a box of what it names, the boxes widened by
`MARGIN` of the photo's sides: ``told``. ``untold`` is the same for the map of free viewing, what a
model blind to text reaches. Peaks alone are coarse, so ``lift`` weighs the whole map: the share of
the told map's mass in the boxes over that of the free viewing's map (Zhang et al., "Top-down neural
attention by excitation backprop", IJCV 2018, play the game on classes alone).

Each row of a table is asked by its first wording, as a held-back benchmark of one text a row would
ask; or by all its wordings, whose scores are averaged before anything else, so that every row counts
once either way. Rows whose boxes cover more than `LARGEST` of the photo are left out: nearly any peak
would hit.

A text about something absent should leave the map of free viewing as it is. Every photo is also
asked a few texts of other photos; how much a text moves its map (``text_effect``: 1 less the
correlation with free viewing; ``variation``: total variation distance of the two densities) then
tells present from absent texts with some area under the ROC curve.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from salgan_edge.errors import DataError
from salgan_edge.evaluate.absence import ABSENT, absent_texts, content_words, identity, usual_words
from salgan_edge.evaluate.pointing import MARGIN, covered, inside, lift, peak, text_effect, variation
from salgan_edge.evaluate.resampling import median, separation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    import numpy.typing as npt

    from salgan_edge.evaluate.resampling import Bootstrap, Interval
    from salgan_edge.gaze.phrases import Box, Phrase, PhraseSet

    FloatMap = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]
    Pixels = npt.NDArray[np.uint8]

__all__ = [
    "ALL", "BIG", "FORMAT_VERSION", "LARGEST", "NOUN_CASES", "SMALL", "Absence", "Absent", "Case", "Model", "Noun", "PromptEvaluation",
    "PromptRow", "PromptScores", "Separation", "evaluate_prompts",
]  # fmt: skip

ALL = "all"
"""The row of all cases."""
LARGEST = 0.6
"""Share of the photo beyond which a row's boxes are no target."""
SMALL, BIG = 0.02, 0.15
"""Boxes that cover less of the photo are small, and more are large."""
NOUN_CASES = 3
"""Cases that a noun needs to be listed."""
FORMAT_VERSION = 1
"""Of `PromptEvaluation.to_dict`."""

_KINDS = ("noun", "attr", "rel")
_NO_NOUNS = ("attr", "rel")
_ARTICLE = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)


class Model(Protocol):
    """Something that gives a saliency map for a photo and a text."""

    @property
    def name(self) -> str:
        """Label in tables."""

    @property
    def bundle(self) -> str | None:
        """Id of the bundle, if it is one."""

    def maps(self, photo: Pixels, texts: Sequence[str | None]) -> list[FloatMap]:
        """Non-negative maps (h, w), all of one size, for each text; None is free viewing."""


@dataclass(frozen=True)
class Case:
    """One text asked of one photo; the mean over a row's wordings where those are averaged."""

    photo: str
    """``SET/NAME``."""
    row: int
    """Number of the phrase among those of the photo."""
    kind: str
    text: str
    boxes: tuple[Box, ...]
    area: float
    """Share of the photo that the boxes cover, as labelled."""
    at_random: float
    """Share of the photo that the widened boxes cover: what a peak at a random place would reach."""
    told: float
    """1 where the told map's peak lies in a widened box, else 0."""
    untold: float
    """The same for free viewing."""
    lift: float
    """NaN where neither map has anything in the boxes."""
    peak: tuple[float, float]
    """x and y of the told map's peak in shares of width and height, 0..1."""
    text_effect: float
    """0 where the text changes nothing, up to 2."""
    variation: float
    """0..1."""


@dataclass(frozen=True)
class Absent:
    """A text of another photo, asked of this one."""

    photo: str
    text: str
    text_effect: float
    variation: float


@dataclass(frozen=True)
class PromptRow:
    """Scores of one model on some of the cases."""

    cases: int
    photos: int
    told: Interval
    untold: Interval
    lift: Interval | None
    """Median; None where no case has one."""
    at_random: float
    """Mean share of the photo that the widened boxes cover."""
    box_area: float
    """Mean share that the boxes cover, as labelled."""


@dataclass(frozen=True)
class Noun:
    """What one noun, a text without its article, reached."""

    noun: str
    cases: int
    told: float
    untold: float


@dataclass(frozen=True)
class Separation:
    """How well one measure tells present from absent texts."""

    auc: Interval
    """Chance that a present text has more of it than an absent one, ties half."""
    auc_matched: Interval | None
    """The same with those present texts alone that could have been drawn as absent ones, so that it
    does not live on how usual the words are; None without one."""
    present: float
    """Mean over present texts."""
    absent: float


@dataclass(frozen=True)
class Absence:
    """Texts about absent things against texts about present ones."""

    present: int
    present_matched: int
    absent: int
    text_effect: Separation
    variation: Separation


@dataclass(frozen=True)
class PromptScores:
    """Scores of one model."""

    name: str
    bundle: str | None
    rows: dict[str, PromptRow]
    """By kind, `ALL` first."""
    sets: dict[str, PromptRow]
    """By set of photos."""
    sizes: dict[str, PromptRow]
    """By share of the photo that the boxes cover, ``small``, ``medium`` or ``large``; see `SMALL`."""
    nouns: list[Noun]
    """Those with `NOUN_CASES` or more cases, the worst first."""
    absence: Absence | None
    """None where no text could be drawn as an absent one."""
    less_first: Interval | None
    """This model's told less the first model's, case by case; None for the first."""
    cases: list[Case]
    """Everything that was asked, wording by wording."""


@dataclass(frozen=True)
class PromptEvaluation:
    """What one table of texts with boxes found; `to_dict` is the JSON."""

    table: str
    split: str
    photos: int
    photos_of_split: int
    texts: int
    left_out: int
    """Rows without a box, or with boxes that cover more than `LARGEST` of the photo."""
    wordings: str
    """``first`` or ``all``."""
    resamples: int
    seed: int
    models: list[PromptScores]

    def to_dict(self) -> dict[str, Any]:
        """The scores without single cases, JSON-ready: intervals are [value, low, high], what cannot be had is None.

        Fields may be added; a change of meaning, name or nesting raises ``format_version``.
        """
        head = {key: value for key, value in vars(self).items() if key != "models"}
        told = [asdict(replace(model, cases=[])) for model in self.models]
        for model in told:
            del model["cases"]
        settings = {"margin": MARGIN, "largest": LARGEST, "absent_texts_per_photo": ABSENT}
        return {"kind": "pointing", "format_version": FORMAT_VERSION, **head, **settings, "models": told}

    @staticmethod
    def summary(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The first model's values by table and split, rounded, for the ``metrics`` of a manifest.

        Args:
            raw: what `to_dict` gave, perhaps through JSON.

        Raises:
            DataError: scores of another format version, or none at all.
        """
        if (raw.get("kind"), raw.get("format_version")) != ("pointing", FORMAT_VERSION):
            raise DataError(
                f"scores of kind {raw.get('kind')}, format {raw.get('format_version')} were given, pointing, "
                f"{FORMAT_VERSION} was expected: evaluate again with --prompts and --json"
            )
        model = raw["models"][0]
        kinds = {
            kind: {"cases": row["cases"], **{name: _value(row[name]) for name in ("told", "untold", "lift")}}
            for kind, row in model["rows"].items()
        }
        absence = None
        if model["absence"] is not None:
            found = model["absence"]["text_effect"]
            absence = {
                "text_effect_auc": _value(found["auc"]),
                "text_effect_auc_matched": _value(found["auc_matched"]),
            }
        return {
            f"pointing {raw['table']} {raw['split']}": {"photos": raw["photos"], **kinds, "absence": absence}
        }


def _value(interval: Sequence[float] | None) -> float | None:
    """The value of [value, low, high], to four digits."""
    return None if interval is None else round(interval[0], 4)


def evaluate_prompts(
    models: Sequence[Model],
    phrases: PhraseSet,
    split: str,
    bootstrap: Bootstrap,
    *,
    all_wordings: bool = False,
    common: Collection[str] = (),
    limit: int | None = None,
    progress: Callable[[Sequence[str]], Iterable[str]] = lambda photos: photos,
) -> PromptEvaluation:
    """Ask every model every text of a split.

    Args:
        models: what to score; the others are compared with the first.
        phrases: the table.
        split: ``train``, ``validation``, ``test`` or ``all``.
        bootstrap: how intervals are made.
        all_wordings: ask all wordings of a row and average, in place of the first.
        common: names of things that photos often show without a label (COCO's classes): texts with a word of
            them are not drawn as absent ones.
        limit: ask of this many photos, spread over the split; all where None. Absent texts stay the same.
        progress: wraps the list of photos, to show progress.

    Raises:
        DataError: the split is empty or has no text with boxes to ask for, or a photo cannot be read.
    """
    chosen = phrases.select() if split == ALL else phrases.select(split)
    if not chosen:
        held = ", ".join(sorted({phrases.split[phrase.photo] for phrase in phrases.phrases}))
        raise DataError(
            f"{phrases.table} has no photos in split {split!r}, only in {held}: choose one of them, or --split all"
        )
    usual = usual_words(chosen, common)
    absent = absent_texts(chosen, usual)
    targets = {photo: [p for p in texts if p.boxes and p.area <= LARGEST] for photo, texts in chosen.items()}
    everyone = [photo for photo, texts in targets.items() if texts]
    if not everyone:
        raise DataError(
            f"{phrases.table} has no text in split {split!r} whose boxes cover 0 to {LARGEST * 100:.0f} % of the photo: "
            "a table with boxes was expected"
        )
    asked = everyone
    if limit is not None and limit < len(everyone):
        asked = [everyone[n * len(everyone) // limit] for n in range(limit)]
    cases: list[list[Case]] = [[] for _ in models]
    others: list[list[Absent]] = [[] for _ in models]
    for photo in progress(asked):
        pixels = phrases.image(photo)
        for n, model in enumerate(models):
            _ask(model, pixels, targets[photo], absent[photo], cases[n], others[n], all_wordings=all_wordings)
    first = [case.told for case in _averaged(cases[0])]
    return PromptEvaluation(
        table=phrases.name,
        split=split,
        photos=len(asked),
        photos_of_split=len(everyone),
        texts=len(cases[0]),
        left_out=sum(len(texts) for texts in chosen.values()) - sum(len(texts) for texts in targets.values()),
        wordings="all" if all_wordings else "first",
        resamples=bootstrap.resamples,
        seed=bootstrap.seed,
        models=[
            _scores(model, told, other, None if n == 0 else first, usual, bootstrap)
            for n, (model, told, other) in enumerate(zip(models, cases, others, strict=True))
        ],
    )


def _ask(
    model: Model,
    pixels: Pixels,
    targets: Sequence[Phrase],
    absent: Sequence[str],
    cases: list[Case],
    others: list[Absent],
    *,
    all_wordings: bool,
) -> None:
    """Ask one model all texts of a photo in one call, and add what it told."""
    photo = targets[0].photo
    wanted = [
        (n, phrase, text)
        for n, phrase in enumerate(targets)
        for text in (phrase.texts if all_wordings else phrase.texts[:1])
    ]
    free, *told = model.maps(pixels, [None, *(text for _, _, text in wanted), *absent])
    places: dict[int, tuple[Floats, float]] = {}
    for (n, phrase, text), values in zip(wanted, told, strict=False):
        if n not in places:
            boxes = covered(phrase.boxes, free.shape)
            places[n] = boxes, float(covered(phrase.boxes, free.shape, MARGIN).mean())
        cases.append(
            Case(
                photo=photo,
                row=n,
                kind=phrase.kind,
                text=text,
                boxes=phrase.boxes,
                area=phrase.area,
                at_random=places[n][1],
                told=float(inside(peak(values), phrase.boxes)),
                untold=float(inside(peak(free), phrase.boxes)),
                lift=lift(values, free, places[n][0]),
                peak=peak(values),
                text_effect=text_effect(values, free),
                variation=variation(values, free),
            )
        )
    others += [
        Absent(photo, text, text_effect(values, free), variation(values, free))
        for text, values in zip(absent, told[len(wanted) :], strict=True)
    ]


# Sums over cases


def _scores(
    model: Model,
    cases: list[Case],
    absent: Sequence[Absent],
    first: Sequence[float] | None,
    usual: frozenset[str],
    bootstrap: Bootstrap,
) -> PromptScores:
    rows = _averaged(cases)
    present = {case.kind for case in rows}
    kinds = [kind for kind in _KINDS if kind in present] + sorted(present - set(_KINDS))
    sets = sorted({_set(case.photo) for case in rows})
    sized = {
        size: [case for case in rows if _size(case.area) == size] for size in ("small", "medium", "large")
    }
    less = None
    if first is not None:
        differences = [case.told - other for case, other in zip(rows, first, strict=True)]
        less = _mean(differences, rows, bootstrap)
    return PromptScores(
        name=model.name,
        bundle=model.bundle,
        rows={
            ALL: _row(rows, bootstrap),
            **{kind: _row([case for case in rows if case.kind == kind], bootstrap) for kind in kinds},
        },
        sets={name: _row([case for case in rows if _set(case.photo) == name], bootstrap) for name in sets},
        sizes={size: _row(some, bootstrap) for size, some in sized.items() if some},
        nouns=_nouns(cases),
        absence=_absence(cases, absent, usual, bootstrap) if absent else None,
        less_first=less,
        cases=cases,
    )


def _averaged(cases: Iterable[Case]) -> list[Case]:
    """One case for each row of the table."""
    rows: dict[tuple[str, int], list[Case]] = {}
    for case in cases:
        rows.setdefault((case.photo, case.row), []).append(case)
    return [_average(group) if len(group) > 1 else group[0] for group in rows.values()]


def _average(group: Sequence[Case]) -> Case:
    """The first wording's case with the mean scores of all."""
    scores = [(case.told, case.untold, case.lift, case.text_effect, case.variation) for case in group]
    told, untold, lifted, effect, moved = np.mean(scores, axis=0).tolist()
    return replace(group[0], told=told, untold=untold, lift=lifted, text_effect=effect, variation=moved)


def _row(cases: Sequence[Case], bootstrap: Bootstrap) -> PromptRow:
    photos = [identity(case.photo) for case in cases]
    return PromptRow(
        cases=len(cases),
        photos=len({case.photo for case in cases}),
        told=_mean([case.told for case in cases], cases, bootstrap),
        untold=_mean([case.untold for case in cases], cases, bootstrap),
        lift=median([case.lift for case in cases], photos, bootstrap),
        at_random=float(np.mean([case.at_random for case in cases])),
        box_area=float(np.mean([case.area for case in cases])),
    )


def _mean(values: Sequence[float], cases: Sequence[Case], bootstrap: Bootstrap) -> Interval:
    found = bootstrap.estimate(values, [identity(case.photo) for case in cases])
    assert found is not None  # no value is NaN, and there is a case
    return found.mean, found.low, found.high


def _absence(
    cases: Sequence[Case], absent: Sequence[Absent], usual: frozenset[str], bootstrap: Bootstrap
) -> Absence:
    matched = [case for case in cases if (held := content_words(case.text)) and not held & usual]

    def told(name: str) -> Separation:
        def auc(some: Sequence[Case]) -> Interval:
            return separation(
                [getattr(case, name) for case in some],
                [getattr(other, name) for other in absent],
                [identity(case.photo) for case in some],
                [identity(other.photo) for other in absent],
                bootstrap,
            )

        return Separation(
            auc=auc(cases),
            auc_matched=auc(matched) if matched else None,
            present=float(np.mean([getattr(case, name) for case in cases])),
            absent=float(np.mean([getattr(other, name) for other in absent])),
        )

    return Absence(len(cases), len(matched), len(absent), told("text_effect"), told("variation"))


def _nouns(cases: Iterable[Case]) -> list[Noun]:
    """Nouns with enough cases, the worst first: fewer hits, then less lead over free viewing, then more cases."""
    held: dict[str, list[Case]] = {}
    for case in cases:
        if case.kind not in _NO_NOUNS:
            held.setdefault(_ARTICLE.sub("", case.text).lower(), []).append(case)
    found = [
        Noun(
            noun, len(some), float(np.mean([c.told for c in some])), float(np.mean([c.untold for c in some]))
        )
        for noun, some in held.items()
        if len(some) >= NOUN_CASES
    ]
    return sorted(found, key=lambda n: (n.told, n.told - n.untold, -n.cases, n.noun))


def _set(photo: str) -> str:
    return photo.split("/", 1)[0]


def _size(area: float) -> str:
    return "small" if area < SMALL else "large" if area > BIG else "medium"
