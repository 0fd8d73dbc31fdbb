"""What it costs to find which recordings share sound, beside reading them. Run it with `make bench-finding`.

Recordings are made of those of the demo: either the same 32 again and again, each with a little noise of its own, so
that nearly all share sound, or two at a time, each slowed down or sped up, so that hardly any do, or the latter with
one in `ONCE_MORE` of them once more, softer, moved and every other time with noise, so that it can be counted how many
of those are found.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch

from benchmarks.large import sounds
from benchmarks.results import RESULTS, machine, write_section
from host_stubs.dataset_check import sha256_of
from host_stubs.fingerprints import Fingerprints
from host_stubs.reading import plan_reading
from host_stubs.shared_sound import groups_of, shared_sound
from host_stubs.synth import SAMPLE_RATE

FILES, SECONDS = 10_000, 1.3
ONCE_MORE, AGO = 20, 10
"""One in so many recordings is once more the one that came so many before it."""
_LENGTH = round(SECONDS * SAMPLE_RATE)


def again(folder: Path) -> Iterator[np.ndarray]:
    """The beginnings of the demo's recordings, float32 `[samples]`, again and again."""
    return (sound[:_LENGTH] for sound in sounds(folder))


def mixed(folder: Path) -> Iterator[np.ndarray]:
    """Two of the demo's recordings at a time, each at a speed of its own, float32 `[samples]`."""
    random, several = np.random.default_rng(0), list(itertools.islice(sounds(folder), 32))
    while True:
        mix = np.zeros(_LENGTH, np.float32)
        for number in random.integers(0, len(several), 2):
            sound = several[number]
            times = np.arange(0, len(sound) - 1, random.uniform(0.7, 1.4))[:_LENGTH]
            mix[: len(times)] += random.uniform(0.2, 0.5) * np.interp(times, np.arange(len(sound)), sound)
        yield mix


def once_more(folder: Path) -> Iterator[np.ndarray]:
    """The same, with one in `ONCE_MORE` once more: up to 12 dB softer, up to a quarter of a second later, and every
    other time with noise 20 dB below it."""
    random, made = np.random.default_rng(1), mixed(folder)
    while True:
        several = list(itertools.islice(made, ONCE_MORE - 1))
        yield from several
        again = np.pad(several[-AGO], (int(random.integers(0, SAMPLE_RATE // 4)), 0))
        noise = random.integers(0, 2) * 0.1 * np.sqrt((again**2).mean()) * random.standard_normal(len(again))
        yield 10 ** (random.uniform(-12, 0) / 20) * (again + noise).astype(np.float32)


def costs(paths: list[Path]) -> list[str]:
    """Processor seconds for reading and hashing files, for listening to them and for comparing them; what the latter
    two are of the first, how many groups share sound, and of how many every `ONCE_MORE`th is with the one `AGO` before
    it."""
    reading = listening = 0.0
    with Fingerprints() as fingerprints:
        for path in paths:
            begun = time.process_time()
            plan = plan_reading(path)
            plan.measured()
            sha256_of(path, path.stat().st_size)
            read = time.process_time()
            fingerprints.listen(str(path), plan.blocks(plan.rate), plan.rate)
            reading, listening = reading + read - begun, listening + time.process_time() - read
        begun = time.process_time()
        found = shared_sound(fingerprints)
        comparing = time.process_time() - begun
    share = (listening + comparing) / reading
    figures = [f"{seconds:.1f} s" for seconds in (reading, listening, comparing)]
    groups = groups_of(found)
    pairs = [(paths[last - AGO], paths[last]) for last in range(ONCE_MORE - 1, len(paths), ONCE_MORE)]
    together = sum(groups.get(str(one), "") == groups.get(str(other)) for one, other in pairs)
    return [*figures, f"{share:.2f}", str(len(set(groups.values()))), f"{together} of {len(pairs)}"]


def main() -> None:
    """Measure both, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--print-only", action="store_true", help="leave RESULTS.md as it is")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # loaded as it is for `host train`: reading then waits half as long for memory
    kinds: dict[str, Callable[[Path], Iterator[np.ndarray]]] = {
        "32 sounds again and again": again,
        "two mixed": mixed,
        f"two mixed, one in {ONCE_MORE} once more": once_more,
    }
    rows = [["recordings", "reading", "listening", "comparing", "both of reading", "groups", "once more and found"]]
    for name, kind in kinds.items():
        with tempfile.TemporaryDirectory() as place:
            paths = [Path(place) / f"{number}.wav" for number in range(arguments.files)]
            for path, sound in zip(paths, kind(Path(place) / "demo"), strict=False):
                soundfile.write(path, sound, SAMPLE_RATE, subtype="PCM_16")
            *figures, together = costs(paths)
            rows.append([name, *figures, together if kind is once_more else ""])
        print(rows[-1], flush=True)
    text = (
        f"Processor seconds for {arguments.files} files of {SECONDS} s at {SAMPLE_RATE // 1000} kHz, as a folder is "
        f"looked through before a training; {machine()}."
    )
    write_section("Recordings that share sound", text, rows, None if arguments.print_only else RESULTS)


if __name__ == "__main__":
    main()
