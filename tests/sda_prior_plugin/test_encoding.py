"""From recordings to a corpus."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from sda_prior_plugin import CodeCorpus, NothingTrained, PriorError, encode_recordings
from sda_prior_plugin.encoding import encode_variants

from .conftest import LevelCodec, Recording


def ramp(samples: int) -> np.ndarray:
    """Sound that grows louder throughout."""
    return np.linspace(0, 1, samples, dtype=np.float32)


def corpus(start_offsets: int, **how: object) -> CodeCorpus:
    """The corpus of two recordings to train on and one held out."""
    train = [Recording("a", ramp(100)), Recording("b", ramp(30))]
    return encode_recordings(
        LevelCodec(),
        train,
        [Recording("c", ramp(50))],
        start_offsets=start_offsets,
        **how,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("samples", [1, 7, 8, 9, 100])
def test_a_codec_that_encodes_one_sound_at_a_time_is_given_each_after_some_silence(samples: int) -> None:
    codec, audio = LevelCodec(), ramp(samples)
    variants = encode_variants(codec, audio, 4)
    assert len(variants) == 4
    for lead, variant in zip((0, 2, 4, 6), variants, strict=True):
        np.testing.assert_array_equal(variant, codec.encode(np.concatenate([np.zeros(lead, np.float32), audio])))


def test_a_recording_of_no_samples_has_no_variants() -> None:
    assert encode_variants(LevelCodec(), ramp(0), 4) == []


def test_training_recordings_have_variants_and_held_out_ones_do_not() -> None:
    made = corpus(4)
    assert len(made.train) == 8
    assert made.train.names == ("a", "b")
    assert len(made.held_out) == 1
    assert made.held_out.names == ("c",)
    assert made.frame_seconds == pytest.approx(0.1)


def test_each_recording_is_told_once_it_is_encoded() -> None:
    names: list[str] = []
    corpus(2, on_recording=names.append)
    assert names == ["a", "b", "c"]


def test_encoding_can_be_stopped() -> None:
    stop = threading.Event()
    with pytest.raises(NothingTrained, match="while the recordings were encoded"):
        corpus(2, stop=stop, on_recording=lambda name: stop.set())


def test_a_dataset_with_nothing_held_out_is_refused() -> None:
    with pytest.raises(PriorError, match="no codes to judge it by"):
        encode_recordings(LevelCodec(), [Recording("a", ramp(30))], [], start_offsets=1)
