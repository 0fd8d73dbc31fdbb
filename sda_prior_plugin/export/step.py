# What a ModuleList holds has methods that mypy does not see.
# mypy: disable-error-code="operator"
"""The network again, for drawing one code after another in TorchScript: `inference.py` with one sequence.

Numbers are summed in another order than there, in double precision as there. Keys and values are rounded to
single, as they are there. Shapes: D hidden size, L levels,
N codes of a frame, C codebook size.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from sda_prior_plugin.inference import Memory
from sda_prior_plugin.network import PriorNetwork
from sda_prior_plugin.weights import Attention, CodeWeights, Recurrence, Weights


def normalized(x: Tensor) -> Tensor:
    """`x [D]` with mean 0 and variance 1."""
    return torch.layer_norm(x, [x.size(0)], eps=1e-5)


class FeedForward(nn.Module):
    """Adds to `x [D]` what a feed-forward network makes of its norm."""

    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor

    def __init__(self, up: np.ndarray, up_bias: np.ndarray, down: np.ndarray, down_bias: np.ndarray) -> None:
        super().__init__()
        _hold(self, up=up.T, up_bias=up_bias, down=down.T, down_bias=down_bias)

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.addmv(self.up_bias, self.up, normalized(x))
        return x + torch.addmv(self.down_bias, self.down, nn.functional.gelu(wide))


class AttentionLayer(nn.Module):
    """A layer of a transformer, with what it remembers: position p stands at p modulo the window."""

    inputs: Tensor
    inputs_bias: Tensor
    attended: Tensor
    keys: Tensor
    values: Tensor

    def __init__(self, weights: Attention, layer: int, window: int) -> None:
        super().__init__()
        self.heads, self.window, self.half_head = weights.heads, window, len(weights.rates)
        self.scale = 1 / math.sqrt(2 * self.half_head)
        _hold(
            self,
            inputs=weights.attention[layer].T,
            inputs_bias=weights.attention_bias[layer],
            attended=weights.attended[layer].T,
            keys=np.zeros((weights.heads, window, 2 * self.half_head)),
            values=np.zeros((weights.heads, window, 2 * self.half_head)),
        )
        self.feed = FeedForward(
            weights.up[layer], weights.up_bias[layer], weights.down[layer], weights.down_bias[layer]
        )

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor, position: int) -> Tensor:
        """`x [D]` after the layer; `cosines` and signed `sines [d]` rotate a head to the position."""
        three = torch.addmv(self.inputs_bias, self.inputs, normalized(x)).view(3, self.heads, -1)
        turned = three[:2]
        turned = turned * cosines + turned.roll(self.half_head, 2) * sines
        slot, seen = position % self.window, min(position + 1, self.window)
        self.keys[:, slot] = turned[1].float().double()
        self.values[:, slot] = three[2].float().double()
        query = (turned[0] * self.scale).unsqueeze(2)
        scores = torch.bmm(self.keys[:, :seen], query).squeeze(2).softmax(1)
        y = torch.bmm(scores.unsqueeze(1), self.values[:, :seen]).flatten()
        return self.feed(torch.addmv(x, self.attended, y))

    def forget(self) -> None:
        """Nothing is read before it is written again."""

    def keep(self) -> None:
        """What is to be forgotten is written over."""

    def go_back(self) -> None:
        """The same."""


class RecurrentLayer(nn.Module):
    """A layer of a GRU, with its state, and the one that it goes back to."""

    inputs: Tensor
    inputs_bias: Tensor
    recalled: Tensor
    recalled_bias: Tensor
    nothing: Tensor

    def __init__(self, weights: Recurrence, layer: int) -> None:
        super().__init__()
        _hold(
            self,
            inputs=weights.inputs[layer].T,
            inputs_bias=weights.inputs_bias[layer],
            recalled=weights.hidden[layer].T,
            recalled_bias=weights.hidden_bias[layer],
            nothing=np.zeros(len(weights.hidden[layer])),
        )
        self.hidden = self.kept = self.nothing

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor, position: int) -> Tensor:
        """`x [D]` after the layer; where it stands is of no matter."""
        gates = torch.addmv(self.inputs_bias, self.inputs, normalized(x)).view(3, -1)
        recalled = torch.addmv(self.recalled_bias, self.recalled, self.hidden).view(3, -1)
        reset, update = (gates[:2] + recalled[:2]).sigmoid().unbind(0)
        new = (gates[2] + reset * recalled[2]).tanh()
        self.hidden = new + update * (self.hidden - new)
        return x + self.hidden

    def forget(self) -> None:
        self.kept = self.nothing

    def keep(self) -> None:
        self.kept = self.hidden

    def go_back(self) -> None:
        self.hidden = self.kept


class Step(nn.Module):
    """What stands before and after the layers. A frame is begun, and its bands are read, one after another."""

    previous: Tensor
    frame_back: Tensor
    after_code: Tensor
    same_level: Tensor
    band: Tensor
    time: Tensor
    logits: Tensor
    logits_bias: Tensor
    end: Tensor
    rates: Tensor
    rows: Tensor
    places: Tensor
    nothing: Tensor

    def __init__(self, network: PriorNetwork, weights: Weights) -> None:
        super().__init__()
        codes: CodeWeights = weights.codes
        self.bands, self.levels = len(codes.band), len(codes.level)
        self.size, self.codebook_size = codes.band.shape[1], network.shape.codebook_size
        self.stride = self.codebook_size + 1
        self.known_frames = len(codes.time)
        self.end_bias = codes.end_bias
        _hold(
            self,
            previous=codes.previous,
            frame_back=codes.frame_back,
            after_code=np.concatenate([codes.previous, codes.coarser], 1),
            same_level=codes.same_level.astype(np.float64) + np.repeat(codes.level, self.stride, 0),
            band=codes.band,
            time=codes.time,
            logits=codes.logits.transpose(0, 2, 1),
            logits_bias=codes.logits_bias,
            end=codes.end,
            rates=np.zeros(0) if weights.attention is None else weights.attention.rates,
            rows=np.tile(np.arange(self.levels) * self.stride, self.bands),
            places=np.arange(self.bands),
            nothing=np.zeros(2 * self.size),
        )
        self.within = FeedForward(codes.level_up, codes.level_up_bias[0], codes.level_down, codes.level_down_bias[0])
        most = network.settings.context_frames
        window = Memory.of_nothing(network, 1, most).keys.shape[3]
        if weights.attention is not None:
            layers = [AttentionLayer(weights.attention, n, window) for n in range(len(weights.attention.attention))]
            self.layers = nn.ModuleList(layers)
        elif weights.recurrence is not None:
            self.layers = nn.ModuleList(
                RecurrentLayer(weights.recurrence, n) for n in range(len(weights.recurrence.inputs))
            )
        self.frame = 0
        self.base = self.same = self.cosines = self.sines = self.known = torch.zeros(0)

    @torch.jit.export
    def begin(self, before: Tensor, frame: int) -> None:
        """Begin a frame after the codes `before [N]`, C where there are none, of a sound's frame of this number."""
        self.frame = frame
        rows = before + self.rows
        back = self.frame_back[rows].view(self.bands, self.levels, -1).sum(1)
        self.base = back + self.band + self.time[min(frame, self.known_frames - 1)]
        self.same = self.same_level[rows]
        self.known = torch.cat([self.previous[rows[-self.levels :]].sum(0), self.nothing[: self.size]])
        angles = (self.places + frame * self.bands).double().unsqueeze(1) * self.rates
        cosines, sines = angles.cos(), angles.sin()
        self.cosines, self.sines = torch.cat([cosines, cosines], 1), torch.cat([-sines, sines], 1)
        for layer in self.layers:
            layer.go_back()

    @torch.jit.export
    def read(self, band: int) -> Tensor:
        """What is known before a band, `[D]`."""
        x = self.base[band] + self.known[: self.size]
        for layer in self.layers:
            x = layer(x, self.cosines[band], self.sines[band], self.frame * self.bands + band)
        self.known = self.nothing
        return x

    @torch.jit.export
    def code_logits(self, x: Tensor, band: int, level: int) -> Tensor:
        """Logits `[C]` of a level of a band, from what is known before the band."""
        z = self.within(x + self.known[self.size :] + self.same[band * self.levels + level])
        return torch.addmv(self.logits_bias[level], self.logits[level], normalized(z))

    @torch.jit.export
    def take(self, level: int, code: int) -> None:
        """Go on from the code of a level."""
        self.known = self.known + self.after_code[level * self.stride + code]

    @torch.jit.export
    def end_probability(self, x: Tensor) -> float:
        """How probable it is that the sound is over, from what is known before the first band."""
        logit = self.end_bias + float(torch.dot(normalized(x), self.end))
        return 1.0 / (1.0 + math.exp(-logit))

    @torch.jit.export
    def keep(self) -> None:
        """Remember the frame that was read."""
        for layer in self.layers:
            layer.keep()

    @torch.jit.export
    def forget(self) -> None:
        """Remember nothing."""
        for layer in self.layers:
            layer.forget()


def _hold(module: nn.Module, **arrays: np.ndarray) -> None:
    """Make arrays buffers of a module, floats as float64."""
    for name, array in arrays.items():
        wide = array.astype(np.float64) if array.dtype == np.float32 else array
        module.register_buffer(name, torch.as_tensor(np.ascontiguousarray(wide)).clone())
