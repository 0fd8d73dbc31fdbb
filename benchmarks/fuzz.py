"""Opens mutated and generated files: `make fuzz`.

Every file is either opened to a model that works, or refused with the one exception type that the host shows to users,
within a second, and within the memory that docs/sda-format.md promises. What is mutated is the model that
tests/fixtures keeps: its header, its document, settings, shapes, places, numbers, its length, and any mixture of these.
A model's prior that cannot be used leaves a model without one; a plugin may refuse it with its own error for users, and
nothing else.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import host_stubs
from host_stubs.header import AND_BYTES, TIMES_ITS_SIZE
from sda_prior_plugin.edge import plugin as prior_plugin

FIXTURE = Path(__file__).parents[1] / "tests" / "fixtures" / "version-2.sda.xz"
ROOM = 2**16  # bytes that the header is padded to, so that another one of any length below fits in its place
MOST_SECONDS = 1.0
LISTENED_TO = 50  # of so many that open, one is sampled and decoded to sound; the others decode to a spectrogram
WHOLE_NUMBERS = (0, 1, 2, 3, 7, 8, 16, 64, 255, 4096, 65_537, 2**31, 2**53, 2**63, 2**64, 10**30, -1, -(2**63))
NUMBERS = (*WHOLE_NUMBERS, 0.0, -0.0, 0.5, 1.5, 1e-300, 1e15, 1e300, -1e300)
TEXTS = ("", "x", "a.b", "prior", "codec", "../x", "/etc/passwd", "\0", "\n", "é", "音", "😀", "\ud800", "x" * 5000)
WORDS = ("NaN", "Infinity", "-Infinity", "1e999", "1" * 5000, "[" * 200 + "]" * 200, '{"a": 1, "a": 2}', "tru", '"', "")
BITS = (b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\xff\xff\x7f\x7f", b"\x01\0\0\0", b"\0\0\0\0")


class StrictPlugins(host_stubs.Plugins):
    """Plugins that may refuse with an error for users, and otherwise may not fail."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0

    def failed(self, plugin: str, where: str, error: BaseException) -> None:
        if not getattr(error, "for_user", False):
            raise AssertionError(f"{plugin} failed in {where}") from error
        self.refused += 1


@dataclass
class Draft:
    """A file in the making: its header as JSON or as bytes, the document in it, and changes to what follows."""

    header: dict[str, Any]
    document: Any
    raw_document: str | None = None
    raw_header: bytes | None = None
    length: int | None = None
    changes: list[tuple[int, bytes]] = field(default_factory=list)  # place in the data, what stands there then
    size: int | None = None  # of the data
    whole: bytes | None = None  # all of the file, in place of all else

    def header_bytes(self) -> bytes:
        if self.raw_header is not None:
            return self.raw_header
        if self.raw_document is None:
            self.raw_document = json.dumps(self.document)
        metadata = self.header.get("__metadata__")
        if isinstance(metadata, dict) and "sda" in metadata:
            self.header["__metadata__"] = metadata | {"sda": self.raw_document}
        return json.dumps(self.header).encode()


class Fuzz:
    """The base file, and the place where its mutants are written, one after another.

    `contents` is the share of mutations that are of its facts and numbers, the others being of its structure.
    """

    def __init__(self, base: bytes, path: Path, seed: int, contents: float = 0.05) -> None:
        length = int.from_bytes(base[:8], "little")
        self.header = base[8 : 8 + length]
        self.data = base[8 + length :]
        self.document = json.loads(self.header)["__metadata__"]["sda"]
        self.random = random.Random(seed)
        self.contents = contents
        self.path = path
        self.last = path
        self.other = path.with_name("other.sda")
        self.file = path.open("w+b", buffering=0)
        os.pwrite(self.file.fileno(), ROOM.to_bytes(8, "little") + self.header.ljust(ROOM) + self.data, 0)

    def draft(self) -> Draft:
        return Draft(json.loads(self.header), json.loads(self.document))

    def mutant(self) -> tuple[str, Draft]:
        """One more, and the names of the mutations in it."""
        draft = self.draft()
        names = []
        for _ in range(self.random.choice((1, 1, 1, 1, 2, 3))):
            mutate = self.random.choice(CONTENTS if self.random.random() < self.contents else STRUCTURE)
            names.append(mutate.__name__)
            try:
                mutate(self, draft)
            except (
                LookupError,
                TypeError,
                ValueError,
                AttributeError,
            ):  # an earlier one took away what this one changes
                continue
        return "+".join(sorted(set(names))), draft

    def write(self, draft: Draft) -> Path:
        """Put a mutant into a file. What it changes in the base file, `undo` puts back."""
        header = draft.header_bytes() if draft.whole is None else b""
        if draft.whole is not None or len(header) > ROOM:
            whole = len(header).to_bytes(8, "little") + header + self.data if draft.whole is None else draft.whole
            self.other.write_bytes(whole)
            return self.other
        length = ROOM if draft.length is None else draft.length % 2**64
        os.pwrite(self.file.fileno(), length.to_bytes(8, "little") + header.ljust(ROOM), 0)
        for place, content in draft.changes:
            os.pwrite(self.file.fileno(), content[: max(0, len(self.data) - place)], 8 + ROOM + place)
        if draft.size is not None:
            os.truncate(self.file.fileno(), 8 + ROOM + draft.size)
        return self.path

    def undo(self, draft: Draft) -> None:
        """Put the base file back."""
        os.pwrite(self.file.fileno(), ROOM.to_bytes(8, "little") + self.header.ljust(ROOM), 0)
        if draft.size is not None:
            os.truncate(self.file.fileno(), 8 + ROOM + len(self.data))
            os.pwrite(self.file.fileno(), self.data[draft.size :], 8 + ROOM + draft.size)
        for place, content in draft.changes:
            os.pwrite(self.file.fileno(), self.data[place : place + len(content)], 8 + ROOM + place)


Mutation = Callable[[Fuzz, Draft], None]


def anything(rng: random.Random, depth: int = 3) -> Any:
    """Some JSON."""
    kind = rng.randrange(8 if depth else 5)
    if kind == 0:
        return rng.choice((None, True, False))
    if kind in (1, 2):
        return rng.choice(NUMBERS)
    if kind in (3, 4):
        return rng.choice(TEXTS)
    if kind == 5:
        return [anything(rng, depth - 1) for _ in range(rng.randrange(5))]
    return {rng.choice(TEXTS): anything(rng, depth - 1) for _ in range(rng.randrange(5))}


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in some JSON."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            waiting.append(one[key])
    return found


def change_in(rng: random.Random, value: Any) -> None:
    """Change, take away or add something anywhere in some JSON."""
    container, key = rng.choice(places(value))
    how = rng.randrange(6)
    if how == 0:
        del container[key]
    elif how == 1 and isinstance(container, dict):
        container[rng.choice(TEXTS)] = container[key]
    elif how == 2 and isinstance(container[key], int | float):
        container[key] = rng.choice((container[key] + 1, container[key] - 1, -container[key], container[key] * 2))
    else:
        container[key] = anything(rng)


def a_tensor(fuzz: Fuzz, draft: Draft) -> str:
    return fuzz.random.choice([name for name in draft.header if name != "__metadata__"])


def tensor_type(fuzz: Fuzz, draft: Draft) -> None:
    kinds = ("F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "F4", "C64", "f32", "", None, 3)
    draft.header[a_tensor(fuzz, draft)]["dtype"] = fuzz.random.choice(kinds)


def tensor_shape(fuzz: Fuzz, draft: Draft) -> None:
    tensor, rng = draft.header[a_tensor(fuzz, draft)], fuzz.random
    shape = tensor["shape"]
    how = rng.randrange(6)
    if how == 0 and len(shape) > 1:
        shape.reverse()
    elif how == 1:
        shape.append(1)
    elif how == 2:
        tensor["shape"] = [int(np.prod(shape))]
    elif how == 3:
        tensor["shape"] = [2**32, 2**32, *shape]
    elif how == 4:
        shape[rng.randrange(len(shape))] = rng.choice(NUMBERS)
    else:
        tensor["shape"] = anything(rng)


def tensor_place(fuzz: Fuzz, draft: Draft) -> None:
    tensor, rng = draft.header[a_tensor(fuzz, draft)], fuzz.random
    how = rng.randrange(5)
    if how == 0:
        tensor["data_offsets"] = draft.header[a_tensor(fuzz, draft)]["data_offsets"]
    elif how == 1:
        shift = rng.choice((-4, 4, 8, 1, -1, 2**40))
        tensor["data_offsets"] = [each + shift for each in tensor["data_offsets"]]
    elif how == 2:
        tensor["data_offsets"][rng.randrange(2)] = rng.choice(NUMBERS)
    elif how == 3:
        tensor["data_offsets"].reverse()
    else:
        tensor["data_offsets"] = anything(rng)


def tensor_name(fuzz: Fuzz, draft: Draft) -> None:
    name, rng = a_tensor(fuzz, draft), fuzz.random
    other = rng.choice((f"other.{name}", name.partition(".")[2], rng.choice(TEXTS), name + ".x", name.upper()))
    draft.header[other] = draft.header.pop(name)


def tensors_swapped(fuzz: Fuzz, draft: Draft) -> None:
    one, other = a_tensor(fuzz, draft), a_tensor(fuzz, draft)
    draft.header[one], draft.header[other] = draft.header[other], draft.header[one]


def tensor_gone_or_new(fuzz: Fuzz, draft: Draft) -> None:
    if fuzz.random.random() < 0.5:
        del draft.header[a_tensor(fuzz, draft)]
    else:
        draft.header[f"{fuzz.random.choice(('codec', 'prior', 'new'))}.new"] = fuzz.random.choice(
            (
                {"dtype": "F32", "shape": [0], "data_offsets": [len(fuzz.data)] * 2},
                {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                {"dtype": "U8", "shape": [0, 2**52], "data_offsets": [0, 0]},
                anything(fuzz.random),
            )
        )


def metadata(fuzz: Fuzz, draft: Draft) -> None:
    rng = fuzz.random
    draft.header["__metadata__"] = rng.choice(
        (
            anything(rng),
            draft.header["__metadata__"] | {rng.choice(TEXTS): anything(rng)},
            draft.header["__metadata__"] | {rng.choice(TEXTS): rng.choice(TEXTS)},
        )
    )


def document(fuzz: Fuzz, draft: Draft) -> None:
    change_in(fuzz.random, draft.document)


def document_text(fuzz: Fuzz, draft: Draft) -> None:
    text, rng = draft.raw_document or json.dumps(draft.document), fuzz.random
    place = rng.randrange(len(text) + 1)
    draft.raw_document = text[:place] + rng.choice((*WORDS, *TEXTS)) + text[place + rng.randrange(3) :]


def random_document(fuzz: Fuzz, draft: Draft) -> None:
    draft.document = anything(fuzz.random, 5)


def codec_setting(fuzz: Fuzz, draft: Draft) -> None:
    rng, codec = fuzz.random, draft.document["codec"]
    part = rng.choice((codec, codec["mel"]))
    part[rng.choice(list(part))] = rng.choice(NUMBERS) if rng.random() < 0.8 else anything(rng)


def prior_setting(fuzz: Fuzz, draft: Draft) -> None:
    rng, settings = fuzz.random, draft.document["prior"]["settings"]
    name = rng.choice(list(settings))
    settings[name] = (
        rng.choice((*NUMBERS, "gru", "transformer", "cpu", *TEXTS)) if rng.random() < 0.9 else anything(rng)
    )


def prior_fact(fuzz: Fuzz, draft: Draft) -> None:
    rng, facts = fuzz.random, draft.document["prior"]
    if rng.random() < 0.5:
        facts[rng.choice(list(facts))] = anything(rng)
    else:
        change_in(rng, facts)


def recording(fuzz: Fuzz, draft: Draft) -> None:
    change_in(fuzz.random, draft.document["dataset"])


def header_bytes(fuzz: Fuzz, draft: Draft) -> None:
    header, rng = bytearray(draft.header_bytes()), fuzz.random
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(len(header))
        how = rng.randrange(3)
        if how == 0:
            header[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            del header[place : place + rng.choice((1, 1, 2, 50))]
        else:
            header[place:place] = rng.choice((b'"', b"{", b"}", b"[", b",", b"\\", b"\xff", b"0", b"\xf0\x9f\x98\x80"))
    draft.raw_header = bytes(header)


def header_length(fuzz: Fuzz, draft: Draft) -> None:
    true = ROOM
    draft.length = fuzz.random.choice((0, 1, true - 1, true + 1, true + 8, 2 * true, 10**8, 10**10, 2**63, 2**64 - 1))


def cut_or_grown(fuzz: Fuzz, draft: Draft) -> None:
    rng = fuzz.random
    draft.size = rng.choice(
        (0, 1, rng.randrange(len(fuzz.data)), len(fuzz.data) - 1, len(fuzz.data) + rng.choice((1, 9)))
    )


def bit_flips(fuzz: Fuzz, draft: Draft) -> None:
    rng = fuzz.random
    for _ in range(rng.choice((1, 1, 4, 64))):
        place = rng.randrange(len(fuzz.data))
        draft.changes.append((place, bytes([fuzz.data[place] ^ (1 << rng.randrange(8))])))


def numbers(fuzz: Fuzz, draft: Draft) -> None:
    """All numbers of a tensor, or one, become something else."""
    rng = fuzz.random
    begin, end = draft.header[a_tensor(fuzz, draft)]["data_offsets"]
    bits = rng.choice((*BITS, rng.randbytes(4), rng.randbytes(8)))
    if rng.random() < 0.5:
        draft.changes.append((begin + 4 * rng.randrange(max(1, (end - begin) // 4)), bits))
    else:
        draft.changes.append((begin, bits * ((end - begin) // len(bits))))


def heard_numbers(fuzz: Fuzz, draft: Draft) -> None:
    rng = fuzz.random
    part = rng.choice(("hashes", "ends", "recordings"))
    tensor = draft.header[f"prior.heard.{part}"]
    begin, end = tensor["data_offsets"]
    size = 4 if tensor["dtype"] == "I32" else 8
    for _ in range(rng.choice((1, 1, 3))):
        value = rng.choice((0, 1, -1, 2 ** (8 * size - 1) - 1, -(2 ** (8 * size - 1)), rng.randrange(2000)))
        place = begin + size * rng.randrange((end - begin) // size)
        draft.changes.append((place, value.to_bytes(size, "little", signed=True)))


def noise(fuzz: Fuzz, draft: Draft) -> None:
    rng = fuzz.random
    start = rng.choice((b"", b"PK\x03\x04", b"\x80\x02", (60).to_bytes(8, "little") + b"{", (9).to_bytes(8, "little")))
    draft.whole = start + rng.randbytes(rng.randrange(200))


STRUCTURE: tuple[Mutation, ...] = (
    tensor_type, tensor_shape, tensor_place, tensor_name, tensors_swapped, tensor_gone_or_new, metadata, document_text,
    random_document, codec_setting, recording, header_bytes, header_length, cut_or_grown, noise,
)  # fmt: skip
CONTENTS: tuple[Mutation, ...] = (document, prior_setting, prior_fact, bit_flips, numbers, heard_numbers)
"""Most of these open, with the prior or without it, which takes ten times as long as a refusal."""


@dataclass
class Tally:
    """What came of the files so far."""

    files: int = 0
    opened: int = 0
    without_prior: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    slowest_name: str = ""
    most_memory: int = 0  # beyond what there was
    most_times: float = 0.0  # memory over the file's size, of files of a megabyte or more

    def __str__(self) -> str:
        return (
            f"{self.files:,} files: {self.opened:,} opened to a working model ({self.without_prior:,} without a "
            f"prior), {self.files - self.opened:,} refused with {len(self.reasons)} different sentences. "
            f"Slowest {self.slowest:.3f} s of processor time ({self.slowest_name}); "
            f"most memory {self.most_memory / 2**20:.1f} MiB, {self.most_times:.2f} times the file's size."
        )


def reset_peak() -> None:
    """Forget the most memory that this process has had (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(name: str) -> int:
    """Bytes of this process, "VmRSS" now or "VmHWM" at most since `reset_peak` (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no {name}")


def try_one(fuzz: Fuzz, plugins: StrictPlugins, tally: Tally) -> None:
    """Write one more mutant, open it, and see that what comes of it is what may come of it."""
    name, draft = fuzz.mutant()
    path = fuzz.last = fuzz.write(draft)
    size = path.stat().st_size
    before, refused = memory("VmRSS"), plugins.refused
    reset_peak()
    start = time.process_time()  # other work on the machine is not the file's fault
    try:
        model = host_stubs.open_model(path, plugins)
    except host_stubs.HostError as error:
        model, message = None, str(error)
    seconds = time.process_time() - start
    grown = memory("VmHWM") - before
    tally.files += 1
    if seconds > tally.slowest:
        tally.slowest, tally.slowest_name = seconds, name
    tally.most_memory = max(tally.most_memory, grown)
    if size >= 2**20:
        tally.most_times = max(tally.most_times, grown / size)
    assert seconds < MOST_SECONDS, f"{name}: {seconds:.2f} s"
    assert grown <= TIMES_ITS_SIZE * size + AND_BYTES, f"{name}: {grown:,} bytes for a file of {size:,}"
    if model is None:
        assert str(path) in message, message
        assert message.isprintable(), message
        assert len(message) < 1000, message
        tally.reasons[" ".join(word for word in message.split() if word.isalpha())] += 1
    else:
        tally.opened += 1
        tally.without_prior += model.prior is None
        assert (model.prior is None) == (plugins.refused > refused or "prior" not in model.bundle.names()), name
        check_works(model, listen=tally.opened % LISTENED_TO == 0)
    fuzz.undo(draft)


def check_works(model: host_stubs.Model, *, listen: bool) -> None:
    """A model that was opened turns codes into a spectrogram or sound, and its prior tells and draws codes."""
    codec = model.codec
    codes = np.arange(2 * codec.bands * codec.levels).reshape(2, codec.bands, codec.levels) % codec.codebook_size
    assert codec.decoded_log_mel(codes).shape == (codec.mel_settings.n_mels, 32)
    if model.prior is not None:
        assert model.prior.log2_probs(codes).shape == codes.shape
    if listen:
        if model.prior is not None:
            codes = model.prior.sample(frames=2, seed=1)
            assert codes.shape == (2, codec.bands, codec.levels)
            model.prior.verbatim(codes) if model.prior.heard is not None else None
        sound = codec.decode(codes)
        assert len(sound) == 2 * codec.frame_samples
        assert np.isfinite(sound).all()


def run(files: int, seed: int, folder: Path, *, show_every: int = 0, seconds: float = float("inf")) -> Tally:
    """Try so many files, or as many as take so many seconds. AssertionError, with the file kept, if one fails."""
    plugins = StrictPlugins()
    plugins.add(prior_plugin, "prior")
    fuzz = Fuzz(lzma.decompress(FIXTURE.read_bytes()), folder / "mutant.sda", seed)
    check_works(host_stubs.open_model(fuzz.path, plugins), listen=True)
    tally = Tally()
    end = time.monotonic() + seconds
    while tally.files < files and time.monotonic() < end:
        try:
            try_one(fuzz, plugins, tally)
        except BaseException:
            kept = Path(tempfile.gettempdir()) / f"failed-{seed}-{tally.files}.sda"
            kept.write_bytes(fuzz.last.read_bytes())
            print(f"file {tally.files} of seed {seed} is kept as {kept}", file=sys.stderr)
            raise
        if show_every and tally.files % show_every == 0:
            print(tally, file=sys.stderr)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    given = parser.parse_args()
    in_memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as folder:
        tally = run(given.files, given.seed, Path(folder), show_every=10_000, seconds=given.seconds)
    print(tally)
    for reason, count in tally.reasons.most_common():
        print(f"  {count:7,}  {reason}")


if __name__ == "__main__":
    main()
