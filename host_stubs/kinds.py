"""The kinds of sound files that can be read, and telling them apart by their content."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_Frame = Callable[[bytes], tuple[int, int] | None]

_HEAD = 4096  # bytes that tell a kind; two frames of MPEG audio fit in
_ID3 = re.compile(rb"ID3[\x02-\x04]..([\x00-\x7f]{4})", re.DOTALL)
_NO_SOUND = rb"heic|heix|hevc|heim|mif1|msf1|avif|avis|crx |jp2 |jpx "
"""Brands of pictures that share the MPEG-4 container."""


@dataclass(frozen=True)
class Kind:
    """A kind of sound file.

    Attributes:
        name: what a musician calls it.
        pattern: what its first bytes are, a regular expression; "" where they say nothing.
        suffixes: how the names of its files end. That decides only where their content says nothing.
        demuxer: FFmpeg's name for what opens it; None where FFmpeg knows it not.
        libsndfile: whether libsndfile reads it. It is not asked for MP3, whose length it guesses.
    """

    name: str
    pattern: bytes
    suffixes: tuple[str, ...]
    demuxer: str | None
    libsndfile: bool = False


MP3 = Kind("MP3", b"", (".mp3", ".mp2", ".mp1", ".mpa"), "mp3")
AAC = Kind("AAC", b"", (".aac", ".adts"), "aac")
OGG = Kind("OGG", rb"OggS", (".ogg", ".oga", ".opus", ".spx"), "ogg", True)
WAV = Kind("WAV", rb"(?:RIFF|RIFX|RF64|BW64)....WAVE", (".wav", ".wave", ".bwf", ".rf64"), "wav", True)

KINDS = (
    WAV,
    Kind("FLAC", rb"fLaC", (".flac",), "flac", True),
    OGG,
    MP3,
    Kind("AIFF", rb"FORM....AIF[FC]", (".aif", ".aiff", ".aifc"), "aiff", True),
    Kind("M4A", rb"....ftyp(?!" + _NO_SOUND + rb")", (".m4a", ".mp4", ".m4b", ".m4r", ".m4v", ".3gp", ".3g2"), "mov"),
    Kind("QuickTime", rb"....(?:moov|mdat|wide|free|skip|pnot)", (".mov", ".qt"), "mov"),
    AAC,
    Kind("CAF", rb"caff\x00", (".caf",), "caf", True),
    Kind("Wave64", rb"riff\x2e\x91\xcf\x11", (".w64",), "w64", True),
    Kind("AU", rb"\.snd|dns\.", (".au", ".snd"), "au", True),
    Kind("WMA", rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", (".wma", ".asf", ".wmv"), "asf"),
    Kind("Matroska", rb"\x1a\x45\xdf\xa3", (".mka", ".mkv", ".webm", ".weba"), "matroska"),
    Kind("AMR", rb"#!AMR", (".amr", ".awb"), "amr"),
    Kind("AC-3", rb"\x0b\x77...[\x00-\x57]", (".ac3",), "ac3"),
    Kind("E-AC-3", rb"\x0b\x77...[\x58-\x87]", (".eac3", ".ec3"), "eac3"),
    Kind("DTS", rb"\x7f\xfe\x80\x01|\xfe\x7f\x01\x80|\x1f\xff\xe8\x00|\xff\x1f\x00\xe8", (".dts",), "dts"),
    Kind("TrueHD", rb"....\xf8\x72\x6f\xba", (".thd",), "truehd"),
    Kind("MLP", rb"....\xf8\x72\x6f\xbb", (".mlp",), "mlp"),
    Kind("Monkey's Audio", rb"MAC [\x00-\xff]", (".ape",), "ape"),
    Kind("WavPack", rb"wvpk", (".wv",), "wv"),
    Kind("TTA", rb"TTA1", (".tta",), "tta"),
    Kind("TAK", rb"tBaK", (".tak",), "tak"),
    Kind("Musepack 7", rb"MP\+.", (".mp+",), "mpc"),
    Kind("Musepack", rb"MPCK", (".mpc",), "mpc8"),
    Kind("Shorten", rb"ajkg", (".shn",), "shn"),
    Kind("DSF", rb"DSD \x1c", (".dsf",), "dsf"),
    Kind("DSDIFF", rb"FRM8........DSD ", (".dff",), "iff"),
    Kind("AVI", rb"RIFF....AVI ", (".avi",), "avi"),
    Kind("Flash", rb"FLV\x01", (".flv",), "flv"),
    Kind("MPEG", rb"\x00\x00\x01\xba", (".mpg", ".mpeg", ".vob"), "mpeg"),
    Kind("MPEG-TS", rb"G.{187}G.{187}G|.{4}G.{191}G.{191}G", (".m2ts", ".mts"), "mpegts"),
    Kind("RealAudio", rb"\.RMF|\.ra\xfd", (".rm", ".ra"), "rm"),
    Kind("VOC", rb"Creative Voice File\x1a", (".voc",), "voc"),  # libsndfile takes heads of its blocks for samples
    Kind("8SVX", rb"FORM....(?:8SVX|16SV)", (".8svx", ".16sv", ".svx"), "iff", True),
    Kind("SoX", rb"\.SoX|XoS\.", (".sox",), "sox"),
    Kind("IRCAM", rb"\x64\xa3[\x01-\x04]\x00|\x00[\x01-\x04]\xa3\x64", (".sf", ".ircam"), "ircam", True),
    Kind("NIST", rb"NIST_1A\n", (".nist", ".sph"), "nistsphere", True),
    Kind("PVF", rb"PVF1\n", (".pvf",), "pvf", True),
    Kind("PARIS", rb" paf|fap ", (".paf",), "epaf", True),
    Kind("AVR", rb"2BIT", (".avr",), "avr", True),
    Kind("FastTracker", rb"Extended Instrument: ", (".xi",), None, True),
    Kind("Psion", rb"ALawSoundFile\*\*", (".wve",), None, True),
    Kind("MAT", rb"MATLAB 5\.0 MAT-file", (), None, True),
    Kind("GSM", b"", (".gsm",), "gsm"),
    Kind("G.722", b"", (".g722",), "g722"),
)
SUFFIXES = frozenset(suffix for kind in KINDS for suffix in kind.suffixes)
"""What the names of recordings usually end with, in lower case."""
RAW_SUFFIXES = frozenset({".raw", ".pcm", ".s16", ".f32"})
"""Of samples without a header: at which rate, and in how many channels, nobody can know."""
COMMON_KINDS = ", ".join(kind.name for kind in KINDS[:6]) + " and more"
"""For a sentence about what can be read."""

_PATTERNS = tuple((re.compile(kind.pattern, re.DOTALL), kind) for kind in KINDS if kind.pattern)


def sound_kind(path: Path) -> str | None:
    """The name of the kind of sound file that a file is, by its content; None if it is none.

    Raises OSError if it cannot be read. To be asked of regular files only: another may block.
    """
    kind = kind_of(path)
    return None if kind is None else kind.name


def kind_of(path: Path) -> Kind | None:
    """As `sound_kind`, with all that is known of the kind."""
    with path.open("rb", buffering=0) as file:
        head = file.read(_HEAD)
        tag = skipped_tag(head)
        if tag:
            file.seek(tag)
            head = file.read(_HEAD)
    return _by_content(head) or (MP3 if tag else _by_suffix(path.suffix.lower()))


def skipped_tag(head: bytes) -> int:
    """How many bytes an ID3 tag takes, with which a file may begin; 0 where there is none."""
    found = _ID3.match(head)
    if found is None:
        return 0
    return 10 + sum(byte << shift for byte, shift in zip(found[1], (21, 14, 7, 0), strict=True))


def counts_its_frames(file: BinaryIO) -> bool:
    """Whether an MP3 says in its first frame how long it is: a Xing, Info or VBRI header."""
    file.seek(0)
    file.seek(skipped_tag(file.read(10)))
    return re.search(rb"Xing|Info|VBRI", file.read(256)) is not None


def _by_content(head: bytes) -> Kind | None:
    for pattern, kind in _PATTERNS:
        if pattern.match(head):
            return kind
    if _follow_each_other(head, _mpeg_frame):
        return MP3
    return AAC if _follow_each_other(head, _adts_frame) else None


def _by_suffix(suffix: str) -> Kind | None:
    return next((kind for kind in KINDS if suffix in kind.suffixes), None)


def _follow_each_other(head: bytes, frame: _Frame) -> bool:
    """Whether two frames stand one behind the other, of the same kind: chance makes one such beginning now and then."""
    first = frame(head)
    if first is None:
        return False
    second = frame(head[first[0] :])
    return second is not None and second[1] == first[1]


def _mpeg_frame(head: bytes) -> tuple[int, int] | None:
    """The bytes of the frame of MPEG audio that stands here, layer 1 to 3, and what all frames of a file share."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate_index, bits = head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or layer == 4 or rate_index == 3 or bits in (0, 15):
        return None
    newest = version == 3
    rate = (44_100, 48_000, 32_000)[rate_index] >> (0 if newest else 1 if version == 2 else 2)
    kilobits = _KILOBITS[(1 if newest else 2, layer if newest else min(layer, 2))][bits - 1]
    padding = head[2] >> 1 & 1
    if layer == 1:
        return (12_000 * kilobits // rate + padding) * 4, head[1] & 0xFE
    samples = 72_000 if layer == 3 and not newest else 144_000
    return samples * kilobits // rate + padding, head[1] & 0xFE


def _adts_frame(head: bytes) -> tuple[int, int] | None:
    """The bytes of the ADTS frame of AAC that stands here, and what all frames of a file share."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return None
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return (length, head[2] & 0xFC) if length >= 7 else None


_KILOBITS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Per second, by (1 for MPEG-1, 2 for the later ones; layer), ISO 11172-3 and 13818-3."""
