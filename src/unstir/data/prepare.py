"""From what a source holds to pictures of one size and one mode, with a record of everything that was done."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from unstir.data.decode import TRANSPARENT, Refused, declared_size, decode, fit
from unstir.data.files import some
from unstir.data.names import Names
from unstir.data.options import Options
from unstir.data.pixels import Pixels, Progress, all_grey, opaque, resized
from unstir.data.raw import PictureArray, PictureFiles
from unstir.data.split import content_split, duplicates, row_hashes
from unstir.data.survey import Survey, counted
from unstir.errors import UserError

Scratch = Callable[[tuple[int, ...]], np.ndarray]
Result = TypeVar("Result")

_MODE_OF_CHANNELS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_THREADS = 8  # beyond that the Python part of each picture is the limit


@dataclass(frozen=True)
class Prepared:
    """Pictures ready to be stored: rows of ``pixels``, which are those of the source, for either split, and one label (and name,
    where they are files) for every row of ``pixels``."""

    pixels: Pixels
    train: np.ndarray
    heldout: np.ndarray
    labels: np.ndarray | None
    files: Sequence[str] | None
    classes: tuple[str, ...]
    rules: str
    survey: Survey
    log: list[str]


def prepare(
    raw: PictureFiles | PictureArray, options: Options, scratch: Scratch, progress: Progress | None = None
) -> Prepared:
    """Pictures of one size and one mode.

    Args:
        raw: what the source holds.
        options: what the user asked for.
        scratch: makes a writable uint8 array of a shape, for pictures that are decoded one by one.
        progress: is told how many pictures of how many are done.

    Raises:
        UserError: when no picture is left.
    """
    if isinstance(raw, PictureFiles):
        return _prepare_files(raw, options, scratch, progress)
    return _prepare_array(raw, options, progress)


def _prepare_array(raw: PictureArray, options: Options, progress: Progress | None) -> Prepared:
    number, height, width, channels = raw.images.shape
    mode, size = _MODE_OF_CHANNELS[channels], options.side([(width, height)])
    log = list(raw.log)
    if channels in (2, 4):
        log.append(f"{mode} pictures: transparency laid over the background")
    levels = opaque(raw.images, options.background)
    if size != (width, height):
        levels = resized(levels, size, progress)
        log.append(f"pictures of {width}×{height} resized to {size[0]}×{size[1]}")
    survey = Survey(number, {f"{width}x{height}": number}, {mode: number})
    done = _Done(size, resized=size != (width, height), transparent=channels in (2, 4))
    return _finish(raw, levels, np.arange(number), options, done, survey, log)


def _prepare_files(raw: PictureFiles, options: Options, scratch: Scratch, progress: Progress | None) -> Prepared:
    declared = [size for size in _in_threads(lambda i: _declared(raw, i), len(raw.names)) if size]
    if not declared:
        raise UserError(_none_readable(raw, [_decode_one(raw, 0, None, options)]))
    size = options.side(declared)
    while True:
        levels = scratch((len(raw.names), size[1], size[0], 3))
        outcomes = _decode_all(raw, options, size, levels, progress)
        good = [outcome.size for outcome in outcomes if outcome.size]
        if not good:
            raise UserError(_none_readable(raw, outcomes))
        # Broken files may have declared sizes that change the answer; the good ones alone decide, once known.
        if options.side(good) == size:
            break
        size = options.side(good)
    log = raw.log + _odd_files(raw, outcomes, size)
    modes = [outcome.mode for outcome in outcomes if outcome.size]
    broken = [[name, outcome.refusal] for name, outcome in zip(raw.names, outcomes) if outcome.refusal]
    survey = Survey(len(raw.names), counted([f"{w}x{h}" for w, h in good]), counted(modes), broken)
    kept = np.array([i for i, outcome in enumerate(outcomes) if outcome.size])
    transparent = any(TRANSPARENT in outcome.notes for outcome in outcomes)
    done = _Done(size, resized=any(one != size for one in good), transparent=transparent)
    return _finish(raw, levels, kept, options, done, survey, log)


@dataclass
class _Outcome:
    """What became of one file: its size when it was decoded, else why it was refused."""

    size: tuple[int, int] | None = None
    mode: str = ""
    refusal: str = ""
    notes: list[str] = field(default_factory=list)


def _decode_all(
    raw: PictureFiles, options: Options, size: tuple[int, int], levels: np.ndarray, progress: Progress | None
) -> list[_Outcome]:
    outcomes = []
    with closing(_in_threads(lambda i: _decode_one(raw, i, levels, options), len(raw.names))) as in_order:
        for outcome in in_order:
            outcomes.append(outcome)
            if progress:
                progress(len(outcomes), len(raw.names))
    return outcomes


def _decode_one(raw: PictureFiles, i: int, levels: np.ndarray | None, options: Options) -> _Outcome:
    """Decodes picture i into row i of ``levels``, (N, H, W, 3)."""
    outcome = _Outcome()
    try:
        image, mode = decode(_read(raw, i), options.background, outcome.notes.append)
    except Refused as refused:
        return _Outcome(refusal=str(refused))
    if levels is not None:
        height, width = levels.shape[1:3]
        levels[i] = np.asarray(fit(image, (width, height)).convert("RGB"))
        if image.size == (1, 1) and (width, height) != (1, 1):
            outcome.notes.append(f"1×1, enlarged to {width}×{height} of one colour")
        elif min(image.size) < min(width, height):
            outcome.notes.append(f"smaller than {width}×{height}, enlarged")
    outcome.size, outcome.mode = image.size, mode
    return outcome


def _declared(raw: PictureFiles, i: int) -> tuple[int, int] | None:
    try:
        return declared_size(_read(raw, i))
    except Refused:
        return None  # said when it is decoded


def _read(raw: PictureFiles, i: int) -> bytes:
    try:
        return raw.read(i)
    except Exception as error:  # a damaged or encrypted zip member raises more than OSError
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise Refused(f"cannot be read ({reason})") from error


def _in_threads(work: Callable[[int], Result], number: int) -> Generator[Result, None, None]:
    """``work(0), work(1), …`` in order; Pillow lets other threads run while it decodes."""
    with _quiet(), ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        try:
            yield from pool.map(work, range(number))
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupt does not wait for thousands of pictures


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow warns of odd files as it decodes them; what matters is in the log, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _odd_files(raw: PictureFiles, outcomes: list[_Outcome], size: tuple[int, int]) -> list[str]:
    """One line for every skipped file and for everything that was done to some of the others."""
    lines, names_of = [], defaultdict(list)
    for name, outcome in zip(raw.names, outcomes):
        if outcome.refusal:
            lines.append(f"{name}: {outcome.refusal}, skipped")
        for note in outcome.notes:
            names_of[note].append(name)
    if lines:
        lines.append(f"{len(lines)} of {len(raw.names)} files skipped")
    lines += [f"{some(names)}: {note}" for note, names in names_of.items()]
    sizes = sorted({outcome.size for outcome in outcomes if outcome.size})
    if sizes != [size]:
        among = f"{len(sizes)} sizes, " if len(sizes) > 1 else ""
        lines.append(f"pictures of {among}{_span(sizes)} resized to {size[0]}×{size[1]}")
    return lines


def _span(sizes: list[tuple[int, int]]) -> str:
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    first, last = (f"{width}×{height}" for width, height in (by_area[0], by_area[-1]))
    return first if len(sizes) == 1 else f"{first} to {last},"


def _none_readable(raw: PictureFiles, outcomes: list[_Outcome]) -> str:
    return f"none of the {len(raw.names)} pictures can be read; the first, {raw.names[0]}: {outcomes[0].refusal}"


@dataclass(frozen=True)
class _Done:
    """What was done to at least one picture, for the sentence of rules."""

    size: tuple[int, int]
    resized: bool
    transparent: bool


def _finish(
    raw: PictureFiles | PictureArray,
    levels: np.ndarray,
    kept: np.ndarray,
    options: Options,
    done: _Done,
    survey: Survey,
    log: list[str],
) -> Prepared:
    """Channels, split and duplicates of the rows ``kept`` of ``levels``."""
    grey = all_grey(levels, kept)
    pixels = Pixels(levels, options.mode or ("L" if grey else "RGB"))
    hashes = [value for part in pixels.parts(kept) for value in row_hashes(part)]
    files = raw.names if isinstance(raw, PictureFiles) else None
    names = Names(kept, files)
    survey.duplicates = [[names[i] for i in rows] for rows in duplicates(hashes)]
    if isinstance(raw, PictureArray) and raw.heldout is not None:
        train, heldout = kept[~raw.heldout], kept[raw.heldout]
    else:
        train, heldout = (kept[rows] for rows in content_split(hashes))
        if len(kept) == 1:
            log.append("a single picture: it is learned from and measured on")
    if survey.duplicates:
        copies = sum(len(group) - 1 for group in survey.duplicates)
        log.append(
            f"equal to another picture once prepared: {copies:,}, e.g. {some(survey.duplicates[0])}; all are kept"
        )
    if raw.labels is not None:
        log += _rare_classes(raw.labels[kept], raw.classes)
    rules = options.rules(done.size, pixels.mode, resized=done.resized, transparent=done.transparent, coloured=not grey)
    return Prepared(pixels, train, heldout, raw.labels, files, raw.classes, rules, survey, log)


def _rare_classes(labels: np.ndarray, classes: tuple[str, ...]) -> list[str]:
    counts = np.bincount(labels, minlength=len(classes))
    lines = []
    for number, words in ((0, "no picture"), (1, "a single picture")):
        rare = [classes[k] for k in np.flatnonzero(counts == number)]
        if rare:
            lines.append(f"{len(rare)} of {len(classes)} classes have {words}: {some(rare)}")
    return lines
