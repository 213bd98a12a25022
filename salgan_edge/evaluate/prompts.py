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

import hashlib
import re
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from salgan_edge.errors import DataError
from salgan_edge.evaluate.measure import some_of
from salgan_edge.evaluate.pointing import covered, inside, lift, peak, text_effect, variation
from salgan_edge.evaluate.scores import (
    ABSENT,
    ALL,
    BIG,
    LARGEST,
    MARGIN,
    NOUN_CASES,
    SMALL,
    Absence,
    Absent,
    Case,
    Noun,
    PromptEvaluation,
    PromptRow,
    PromptScores,
    Separation,
    median,
    separation,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from salgan_edge.evaluate.models import Model
    from salgan_edge.evaluate.scores import Bootstrap, Interval
    from salgan_edge.gaze.phrases import Phrase, PhraseSet

    Floats = npt.NDArray[np.float64]
    Pixels = npt.NDArray[np.uint8]

__all__ = ["absent_texts", "content_words", "evaluate_prompts", "usual_words"]

_KINDS = ("noun", "attr", "rel")
_NO_NOUNS = ("attr", "rel")
_ARTICLE = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)
_USUAL_SHARE, _USUAL_PHOTOS = 0.02, 4
_COCO_NUMBER = re.compile(r"\d{12}")
_WORD = re.compile(r"[^\W\d_]+")
_FUNCTION_WORDS = (
    "a an the of in on at with without and or to from by for near next behind under over above below between beside "
    "left right top bottom front back side middle center centre upper lower inside outside into onto through across "
    "around along against that which who is are its his her their this one two three"
)
_PEOPLE = (
    "person people man men woman women boy girl child children kid baby lady guy player face head hand arm leg foot "
    "feet hair body crowd"
)
_IGNORED = frozenset(_FUNCTION_WORDS.split())


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
    asked = some_of(everyone, limit)
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


# Texts about absent things
#
# Labels say what is in a photo, never what is not: a text counts as absent where it shares no word with any label of the
# photo and names nothing that photos often show without a label.


def content_words(text: str) -> frozenset[str]:
    """Words that carry meaning, in lower case and roughly in the singular.

    >>> sorted(content_words("the red cups on the left"))
    ['cup', 'red']
    """
    return frozenset(_singular(word) for word in _WORD.findall(text.lower()) if word not in _IGNORED)


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("xes", "ches", "shes", "sses")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def usual_words(chosen: Mapping[str, Sequence[Phrase]], common: Collection[str]) -> frozenset[str]:
    """Words of things that a photo may well show without a label.

    They are those of `common`, of people and their parts, and those that name something in more than
    2 % of the photos (and in more than four).
    """
    photos = Counter(word for texts in chosen.values() for word in _words(texts))
    often = max(_USUAL_PHOTOS, _USUAL_SHARE * len(chosen))
    named = content_words(" ".join([*common, _PEOPLE]))
    return named | {word for word, count in photos.items() if count > often}


def absent_texts(
    chosen: Mapping[str, Sequence[Phrase]], usual: Collection[str], count: int = ABSENT
) -> dict[str, list[str]]:
    """For each photo, texts of others that share no word with any of its own texts and have none of `usual`.

    The texts, in the order of their SHA-256, are walked through from a place that the photo's name
    gives, so a draw depends on nothing but the table and its split.

    Returns:
        By photo, `count` texts, or as many as there are.
    """
    usual = frozenset(usual)
    words = {text: content_words(text) for texts in chosen.values() for p in texts for text in p.texts[:1]}
    pool = sorted((text for text, held in words.items() if held and not held & usual), key=_hash)
    same: dict[str, set[str]] = defaultdict(set)
    for photo, texts in chosen.items():
        same[_identity(photo)] |= _words(texts)
    drawn: dict[str, list[str]] = {}
    for photo in chosen:
        start = _hash(photo) % max(1, len(pool))
        own = same[_identity(photo)]
        free = (text for text in pool[start:] + pool[:start] if not words[text] & own)
        drawn[photo] = [text for text, _ in zip(free, range(count), strict=False)]
    return drawn


def _words(texts: Iterable[Phrase]) -> set[str]:
    return {word for phrase in texts for text in phrase.texts for word in content_words(text)}


def _identity(photo: str) -> str:
    """What is the same for a photo of COCO in several sets."""
    name = photo.split("/", 1)[1]
    return name if _COCO_NUMBER.fullmatch(name) else photo


def _hash(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


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
    photos = [_identity(case.photo) for case in cases]
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
    found = bootstrap.estimate(values, [_identity(case.photo) for case in cases])
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
                [_identity(case.photo) for case in some],
                [_identity(other.photo) for other in absent],
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
