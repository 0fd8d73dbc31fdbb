"""What may change while a model plays, and the keys that change it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from host_stubs.generation import DEFAULT_TOP_P

MOST_TEMPERATURE = 10.0
MOST_SEED = 2**32 - 1
KINDS = ("wav", "s16", "f32")
"""A WAV of 16 bits; or the samples alone, little-endian, as whole numbers of 16 bits or as floats of 32."""
_STEP, _LEAST = 0.05, 0.01  # of temperature and top-p
KEYS = "t/T temperature down/up, p/P top-p down/up, s/S next/last seed, h hold, r forget, q end"
END = "q"


@dataclass(frozen=True)
class PlaySettings:
    """How the next code frame is drawn; docs/hooks.md says what each means to a plugin."""

    temperature: float = 1.0
    top_p: float = DEFAULT_TOP_P
    top_k: int = 0
    seed: int = 0
    resets: int = 0
    hold: bool = False


class Controls:
    """The settings as they are now. One thread changes them, another one reads them."""

    def __init__(self, settings: PlaySettings) -> None:
        self.settings = settings

    def now(self) -> PlaySettings:
        """The settings for the next code frame."""
        return self.settings

    def press(self, key: str) -> str | None:
        """Change what a key changes; gives what to say of it, or None for a key that means nothing."""
        was = self.settings
        match key:
            case "t" | "T":
                value = _stepped(was.temperature, key.isupper(), MOST_TEMPERATURE)
                self.settings, said = replace(was, temperature=value), f"temperature {value:.2f}"
            case "p" | "P":
                value = _stepped(was.top_p, key.isupper(), 1.0)
                self.settings, said = replace(was, top_p=value), f"top-p {value:.2f}"
            case "s" | "S":
                seed = (was.seed + (1 if key == "s" else -1)) % (MOST_SEED + 1)
                self.settings, said = replace(was, seed=seed), f"seed {seed}"
            case "h":
                self.settings, said = replace(was, hold=not was.hold), "hold off" if was.hold else "hold on"
            case "r":
                self.settings, said = replace(was, resets=was.resets + 1), "forgotten"
            case _:
                return None
        return said


def _stepped(value: float, up: bool, most: float) -> float:
    """The value a step further, within its bounds."""
    return min(most, round(value + _STEP, 2)) if up else max(min(value, _LEAST), round(value - _STEP, 2))
