"""What keeps new codes from copying: `copying.CopyGuard` again, in TorchScript, for a length that may change."""

import numpy as np
import torch
from torch import Tensor, nn

from sda_prior_plugin import window_hashes
from sda_prior_plugin.copying import Heard
from sda_prior_plugin.export.counting import signed


class Guard(nn.Module):
    """Rules out codes that would complete a window of frames that was heard.

    Attributes:
        frames: of a window; 0 where nothing is ruled out.
        most: frames of a window, at most.
    """

    recent: list[int]
    hashes: Tensor
    ends: Tensor
    codes: Tensor
    none: Tensor
    nothing: Tensor

    def __init__(self, heard: Heard | None, codebook_size: int, most: int) -> None:
        super().__init__()
        self.frames, self.most = 0, most
        self.odd, self.roll, self.mix = (signed(n) for n in (window_hashes.ODD, window_hashes.ROLL, window_hashes.MIX))
        self.frame = int(window_hashes.FRAME)
        hashes = np.zeros(0, np.uint32) if heard is None else np.asarray(heard.hashes)
        ends = np.zeros(0, np.int64) if heard is None else np.asarray(heard.starts)[1:].astype(np.int64)
        self.register_buffer("hashes", torch.as_tensor(hashes.astype(np.int64)))
        self.register_buffer("ends", torch.as_tensor(ends))
        self.register_buffer("codes", torch.arange(codebook_size))
        self.register_buffer("none", torch.zeros(0, dtype=torch.bool))
        self.register_buffer("nothing", torch.zeros(0, dtype=torch.int64))
        self.windows = self.powers = self.nothing
        self.recent = []
        self.drawn = 0

    @torch.jit.export
    def look_for(self, frames: int) -> None:
        """From now on rule out windows of `frames`, or nothing with 0."""
        self.frames = frames
        self.windows = self.nothing
        count = self.hashes.size(0) - frames + 1
        if frames < 1 or count < 1:
            return
        rolling = torch.zeros_like(self.hashes[:count])
        for place in range(frames):
            rolling = rolling * self.roll + self.hashes[place : place + count]
        first = torch.arange(count)
        end = self.ends[torch.searchsorted(self.ends, first, right=True)]
        self.windows = self._mixed(rolling)[first + frames <= end].sort()[0]
        powers: list[int] = []
        power = self.roll
        for _ in range(frames - 1):
            powers.append(power)
            power = power * self.roll
        self.powers = torch.tensor(powers, dtype=torch.int64).flip(0)

    @torch.jit.export
    def ruled_out(self, codes: list[int]) -> Tensor:
        """Which last codes of a frame, whose others are `codes`, complete a window: bool `[C]`, or empty for none."""
        before = self.frames - 1
        if before < 0 or self.drawn < before or self.windows.size(0) == 0:
            return self.none
        past = torch.tensor(self.recent[len(self.recent) - before :], dtype=torch.int64)
        rolling = (past * self.powers).sum()
        prefix = self._hashed(codes)
        frame = self._mixed_once((self.codes + (prefix + 1)) * self.odd) & self.frame
        wanted = self._mixed(rolling + frame)
        place = torch.searchsorted(self.windows, wanted).clamp(max=self.windows.size(0) - 1)
        return self.windows[place] == wanted

    @torch.jit.export
    def saw(self, codes: list[int]) -> None:
        """A frame was drawn."""
        self.recent.append(self._hashed(codes) & self.frame)
        if len(self.recent) >= self.most:
            self.recent.pop(0)
        self.drawn += 1

    @torch.jit.export
    def forget(self) -> None:
        """Nothing was drawn yet."""
        self.recent.clear()
        self.drawn = 0

    def _mixed(self, value: Tensor) -> Tensor:
        value = self._mixed_once(value)
        return torch.where(value == 0, torch.ones_like(value), value)  # 0 stands for no window

    def _mixed_once(self, value: Tensor) -> Tensor:
        value = (value ^ ((value >> 31) & 0x1FFFFFFFF)) * self.mix
        return value ^ ((value >> 31) & 0x1FFFFFFFF)

    def _hashed(self, codes: list[int]) -> int:
        """What a frame's codes, or some of them, are mixed to."""
        value = self.odd
        for code in codes:
            value = (value + code + 1) * self.odd
            value = (value ^ ((value >> 31) & 0x1FFFFFFFF)) * self.mix
            value = value ^ ((value >> 31) & 0x1FFFFFFFF)
        return value
