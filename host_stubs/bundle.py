"""What a `.sda` file holds beside the codec: one entry per namespace, known to this host or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

RESERVED = frozenset({"format", "version", "model_type", "name", "has_prior", "codec", "training", "dataset"})


@dataclass(frozen=True)
class Entry:
    """One namespace: plain JSON facts, and tensors under their names inside the namespace ("out.weight")."""

    facts: dict[str, Any]
    tensors: dict[str, torch.Tensor]


class Bundle:
    """The entries of a model file, by namespace. What nobody changes is written back byte for byte.

    `texts` holds the JSON text of each top-level member as the file had it, `tensors` every tensor under its full
    name, `metadata` what other programs left in the safetensors metadata. Members are parsed and tensors read from
    their file only when they are asked for, so a number's spelling or a type this host has never heard of survives open
    and save, and a namespace that nobody asks for costs no time, however large it is.
    """

    def __init__(
        self,
        *,
        has_prior: bool = False,
        texts: Mapping[str, str] | None = None,
        tensors: Mapping[str, torch.Tensor] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.has_prior = has_prior
        self._texts = dict(texts or {})
        tensors = tensors or {}
        self._tensors = dict.fromkeys(tensors, tensors)  # by full name, the mapping that gives it when asked
        self._metadata = dict(metadata or {})

    @property
    def texts(self) -> dict[str, str]:
        """JSON text of each member, by namespace."""
        return dict(self._texts)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors by full name ("prior.out.weight"). Raises HostError if one can no longer be read."""
        return {full: source[full] for full, source in self._tensors.items()}

    @property
    def metadata(self) -> dict[str, str]:
        """Other programs' entries in the file's safetensors metadata."""
        return dict(self._metadata)

    def names(self) -> list[str]:
        """Namespaces that have facts or tensors, sorted."""
        return sorted({*self._texts, *(name.partition(".")[0] for name in self._tensors)})

    def get(self, name: str) -> Entry | None:
        """The entry of one namespace, or None. Changing what it returns changes nothing here: use `put`.

        Raises HostError if its tensors can no longer be read from the file.
        """
        facts = json.loads(self._texts.get(name, "{}"))
        if name not in self.names() or not isinstance(facts, dict):
            return None
        prefix = f"{name}."
        own = {full[len(prefix) :]: source[full] for full, source in self._tensors.items() if full.startswith(prefix)}
        return Entry(facts, own)

    def put(self, name: str, facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Set the entry of one namespace, replacing what it held.

        `facts` must be plain JSON (no NaN or infinity) and `tensors` real tensors; both are copied, so that what is
        saved is what was put. Raises ValueError or TypeError otherwise, and for a name that is the host's own.
        """
        if not name or "." in name or name in RESERVED:
            raise ValueError(f"'{name}' cannot name an entry of a bundle")
        text = json.dumps(dict(facts), allow_nan=False)
        copies = {f"{name}.{inner}": t.detach().to("cpu", copy=True).contiguous() for inner, t in tensors.items()}
        self.remove(name)
        self._texts[name] = text
        self._tensors |= dict.fromkeys(copies, copies)

    def remove(self, name: str) -> None:
        """Drop one namespace, if it is there."""
        self._texts.pop(name, None)
        self._tensors = {full: t for full, t in self._tensors.items() if full.partition(".")[0] != name}

    def copy(self) -> Bundle:
        """A bundle that can be changed without changing this one (the tensors themselves are shared)."""
        other = Bundle(has_prior=self.has_prior, texts=self._texts, metadata=self._metadata)
        other._tensors = dict(self._tensors)
        return other
