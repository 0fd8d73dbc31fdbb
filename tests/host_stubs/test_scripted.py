"""What a codec gives to programs without Python computes what the codec does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from host_stubs.codec import Codec
from host_stubs.mel import MelSettings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["as the host trains it", "with windows that reach far"])
def any_codec(request: pytest.FixtureRequest, codec: Codec) -> Codec:
    if request.param == "as the host trains it":
        return codec
    mel = dataclasses.asdict(MelSettings(sample_rate=16_000, n_fft=1024, hop_length=64, n_mels=40))
    return Codec.from_parts({**codec.settings(), "mel": mel}, codec.tensors())


def test_sound_and_codes_are_those_of_the_codec_however_they_are_cut(any_codec: Codec) -> None:
    """Over more windows than there are kinds of, after a restart as before it."""
    scripted, rng = any_codec.scripted(), np.random.default_rng(0)
    codes = rng.integers(0, any_codec.codebook_size, (27, any_codec.bands, any_codec.levels))
    sound = any_codec.decode(codes)
    heard = any_codec.encode(sound)
    for cuts in ([1, 2, 5, 6, 7, 16], [20]):
        scripted.restart()
        with torch.inference_mode():
            made = torch.cat([scripted.decode(part) for part in torch.as_tensor(codes).tensor_split(cuts)]).numpy()
            cuts = [cut * any_codec.frame_samples // 2 for cut in cuts]
            found = torch.cat([scripted.encode(part) for part in torch.as_tensor(sound).tensor_split(cuts)]).numpy()
        assert len(made) >= (len(codes) - scripted.lag) * any_codec.frame_samples
        np.testing.assert_allclose(made, sound[: len(made)], atol=1e-5)
        assert len(found) == len(heard) - 1
        np.testing.assert_array_equal(found, heard[:-1])
