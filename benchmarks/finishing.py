"""When a default training ends, what it has learned by then, and what its prior adds to the model file.

For each dataset, those beside the repository and the demo's, at full length as `host train-prior` has them: the fewest
held-out bits per code, the epoch of them, how long training took and which share of that was after the best epoch; and
the kept weights in other precisions. Run it with `python -m benchmarks.finishing`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable

import torch
from torch import Tensor

from benchmarks.corpora import Dataset, demo_dataset, legacy_datasets, sitar_dataset
from benchmarks.results import machine, write_section
from sda_prior_plugin import CodeCorpus, PriorRun, train_prior
from sda_prior_plugin.copy_meter import CopyMeter
from sda_prior_plugin.edge.heard_entry import heard_tensors
from sda_prior_plugin.half import halved
from sda_prior_plugin.judging import held_out_bits

FEW_FILES = 5


def judged_bits(run: PriorRun, corpus: CodeCorpus, batch_size: int, dtype: torch.dtype) -> float:
    """Held-out bits per code of the kept weights, rounded to a precision and computed in single precision."""
    network, judged = run.prior.network, CopyMeter(corpus).unheard.judged
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for name, tensor in network.state_dict().items():
        tensor.copy_(before[name].to(dtype))
    bits = held_out_bits(network, corpus, judged, network.settings.context_frames, batch_size, torch.float32)
    network.load_state_dict(before)
    return float(bits.sum()) / (int(judged.sum()) * corpus.shape.frame_codes)


def added_bytes(run: PriorRun) -> tuple[int, int]:
    """Bytes that the prior adds to its file: of its weights, and of what it was trained on."""
    assert run.prior.heard is not None
    assert run.prior.sketch is not None
    heard = heard_tensors(run.prior.heard, run.prior.sketch)
    return size(halved(run.prior.weights).values()), size(heard.values())


def size(tensors: Iterable[Tensor]) -> int:
    """Bytes of some tensors."""
    return sum(tensor.nbytes for tensor in tensors)


def row(dataset: Dataset, seed: int) -> list[str]:
    """Train once with the defaults; the line of the table."""
    settings = dataset.default_settings(seed=seed)
    corpus = dataset.corpus_for(settings)
    run = train_prior(corpus, settings)
    report, (weights, heard) = run.report, added_bytes(run)
    return [
        f"{dataset.name}, {dataset.file_count} files",
        f"{math.log2(min(report.held_out_perplexities)):.3f}",
        f"{report.epochs_trained} of {settings.epochs} ({report.ended})",
        str(1 + report.held_out_perplexities.index(min(report.held_out_perplexities))),
        f"{report.seconds:.0f} s",
        f"{1 - report.best_seconds / report.seconds:.0%}",
        f"{weights / 1e6:.2f} + {heard / 1e6:.2f} MB",
        " / ".join(
            f"{judged_bits(run, corpus, settings.batch_size, dtype):.4f}" for dtype in (torch.float16, torch.bfloat16)
        ),
    ]


def main() -> None:
    """Measure every dataset and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    whole = [*legacy_datasets(), *sitar_dataset(), demo_dataset()]
    lines = []
    for dataset in [*(dataset.sample(FEW_FILES, seed=0) for dataset in whole), *whole]:
        lines.append(row(dataset, arguments.seed))
        print(lines[-1], flush=True)
    write_section(
        "When a training ends",
        f"Default trainings, seed {arguments.seed}, {arguments.threads} threads, {machine()}: held-out bits per code "
        "at the best epoch; epochs until it ended, of how many at most, and why; seconds, and the share of them after "
        "the kept epoch; what the prior adds to its file, weights and what it was trained on; and the kept weights' "
        "bits in float16, as they are in the file, and rounded further to bfloat16.",
        [["corpus", "bits", "epochs", "best", "time", "after it", "in the file", "float16 / bfloat16"], *lines],
    )


if __name__ == "__main__":
    main()
