"""Teaches a `.sda` model to make new sound: trains an autoregressive prior over its codes.

This is the public face; `sda_prior_plugin.edge` is where it meets the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sda_prior_plugin.lazy import lazy_face

if TYPE_CHECKING:
    from sda_prior_plugin.batches import Batch, CodeBatches
    from sda_prior_plugin.codes import CodeShape
    from sda_prior_plugin.dataset import CodeCorpus
    from sda_prior_plugin.encoding import encode_recordings
    from sda_prior_plugin.errors import NothingTrained, PriorError
    from sda_prior_plugin.events import (
        BatchDone,
        ChoosingStarted,
        EpochDone,
        MemorizingFound,
        TrainingEnded,
        TrainingEvent,
        TrainingResumed,
        TrainingStarted,
    )
    from sda_prior_plugin.memorization import MemorizationReport
    from sda_prior_plugin.prior import Prior
    from sda_prior_plugin.report import TrainingReport
    from sda_prior_plugin.settings import KNOBS, Knob, PriorSettings, read_tiers
    from sda_prior_plugin.training import PriorRun, train_prior
    from sda_prior_plugin.training_state import NotResumable, TrainingState

__all__ = [
    "KNOBS",
    "Batch",
    "BatchDone",
    "ChoosingStarted",
    "CodeBatches",
    "CodeCorpus",
    "CodeShape",
    "EpochDone",
    "Knob",
    "MemorizationReport",
    "MemorizingFound",
    "NotResumable",
    "NothingTrained",
    "Prior",
    "PriorError",
    "PriorRun",
    "PriorSettings",
    "TrainingEnded",
    "TrainingEvent",
    "TrainingReport",
    "TrainingResumed",
    "TrainingStarted",
    "TrainingState",
    "encode_recordings",
    "read_tiers",
    "train_prior",
]

__getattr__ = lazy_face(
    __name__,
    {
        "Batch": "batches",
        "CodeBatches": "batches",
        "CodeShape": "codes",
        "CodeCorpus": "dataset",
        "encode_recordings": "encoding",
        "NothingTrained": "errors",
        "PriorError": "errors",
        "BatchDone": "events",
        "ChoosingStarted": "events",
        "EpochDone": "events",
        "MemorizingFound": "events",
        "TrainingEnded": "events",
        "TrainingEvent": "events",
        "TrainingResumed": "events",
        "TrainingStarted": "events",
        "MemorizationReport": "memorization",
        "Prior": "prior",
        "TrainingReport": "report",
        "KNOBS": "settings",
        "Knob": "settings",
        "PriorSettings": "settings",
        "read_tiers": "settings",
        "PriorRun": "training",
        "train_prior": "training",
        "NotResumable": "training_state",
        "TrainingState": "training_state",
    },
)
