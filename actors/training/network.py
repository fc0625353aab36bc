"""Training of the convolutional network on mixtures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from actors.science.detection import cnn
from actors.science.detection.cnn import Convolutional, Layers
from actors.science.types import BACKGROUND
from actors.training import mixtures
from actors.training.mixtures import Scene

#: Maximum learning rate, and weight decay.
RATE, DECAY = 3e-3, 0.02

#: Synthetic mixtures of an epoch, as a share of the real ones.
OTHER_SHARE = 0.2

#: Share of batches whose mixtures are mixed in pairs.
MIXED_SHARE = 0.3

#: Loss weight of a background frame relative to one of sound, and of the whole mixture relative to
#: its frames.
BACKGROUND_WEIGHT, SCENE_WEIGHT = 0.5, 0.5

#: Maximum number of masked bands, in half of the mixtures.
_MASKED_BANDS = 10

#: Held while torch initialises weights, from a random generator that all threads share.
_DRAWING = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Course:
    """The size of a network, and the length of its training.

    Attributes
    ----------
    n_real
        Real mixtures of an epoch, for any number of mixtures. `OTHER_SHARE` times as many synthetic
        ones are added.
    epochs
        Number of epochs.
    batch
        Mixtures per batch.
    widths, hidden
        Channels of the stages, and width of the last hidden layer.
    dropout
        Dropout rate before the last layers.
    """

    n_real: int
    epochs: int = 50
    batch: int = 32
    widths: tuple[int, int, int] = (24, 48, 96)
    hidden: int = 128
    dropout: float = 0.3

    @property
    def n_batches(self) -> int:
        """Maximum number of batches of an epoch."""
        return max(1, int(self.n_real * (1 + OTHER_SHARE)) // self.batch)


@dataclass(frozen=True, eq=False)
class Spectra:
    """Mixtures as inputs of the network.

    ``log_mel`` [shape=(n, n_frames, N_MELS), dtype=float16] in dB; ``targets`` [shape=(n, N_STEPS),
    dtype=int64] is the column of each frame's class, -1 for ignored frames; ``is_real`` marks
    mixtures of recordings.
    """

    log_mel: Tensor
    targets: Tensor
    is_real: Tensor

    def where(self, mask: NDArray[np.bool_]) -> Spectra:
        """Select the mixtures of a mask."""
        kept = torch.from_numpy(mask)
        return Spectra(self.log_mel[kept], self.targets[kept], self.is_real[kept])


def spectra(made: Sequence[Scene], *, classes: Sequence[str], real: set[str]) -> Spectra:
    """Compute the spectra of mixtures; ``real`` names the clips that are recordings."""
    log_mel = torch.stack([cnn.log_mel(scene.samples).half() for scene in made])
    steps = np.stack([scene.steps for scene in made])
    labels = [scene.label for scene in made]
    is_real = torch.tensor([scene.clip in real for scene in made])
    return Spectra(log_mel, targets(steps, labels=labels, classes=classes), is_real)


def targets(steps: NDArray[np.int8], *, labels: Sequence[str], classes: Sequence[str]) -> Tensor:
    """Return the column of each frame's class, -1 for ignored frames; see `Spectra`.

    Takes the ``steps`` of mixtures [shape=(n, N_STEPS)] and their labels. A mixture without audible
    sound may have a label that is not a class.
    """
    found = np.full(steps.shape, -1, dtype=np.int64)
    for row, heard, label in zip(found, steps, labels, strict=True):
        if (heard == mixtures.SOUND).any():
            row[heard == mixtures.SOUND] = list(classes).index(label)
        row[heard == mixtures.BACKGROUND_STEP] = list(classes).index(BACKGROUND)
    return torch.from_numpy(found)


def train(
    examples: Spectra,
    *,
    classes: Sequence[str],
    course: Course,
    seed: int,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Convolutional:
    """Train a network.

    Parameters
    ----------
    examples
        The training data.
    classes
        The columns of the targets.
    course
        The size of the network, and the length of its training.
    seed
        The same examples and seed give the same network on the same processor.
    on_epoch
        Receives the number of each finished epoch, and its mean loss; an exception from it stops
        the training.
    """
    chance = torch.Generator().manual_seed(seed)
    layers = _untrained(course, n_classes=len(classes), seed=seed)
    optimiser = torch.optim.AdamW(layers.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RATE, total_steps=course.epochs * course.n_batches, pct_start=0.15
    )
    batches = Batches(examples, classes=classes, chance=chance, course=course)
    for epoch in range(course.epochs):
        layers.train()
        losses: list[float] = []
        for frames, shares, counts in batches.epoch():
            # Half precision where the processor supports it: twice as fast, and as accurate.
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=_has_bfloat16()):
                logits = layers(frames)
            loss = _loss(logits.float(), shares, counts, background=batches.background)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        if on_epoch is not None:
            on_epoch(epoch, float(np.mean(losses)))
    return Convolutional.of(layers.eval(), widths=course.widths, hidden=course.hidden)


def _untrained(course: Course, *, n_classes: int, seed: int) -> Layers:
    """Return initialised layers, with a separate random generator for dropout."""
    with _DRAWING:
        torch.manual_seed(seed)
        layers = Layers(
            widths=course.widths,
            hidden=course.hidden,
            n_classes=n_classes,
            dropout=course.dropout,
        )
        layers.draw_from(torch.Generator().set_state(torch.get_rng_state()))
    return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class Batches:
    """Draw augmented batches: shifted in time, mixed in pairs, with masked bands."""

    def __init__(
        self, examples: Spectra, *, classes: Sequence[str], chance: torch.Generator, course: Course
    ) -> None:
        self._examples = examples
        self._chance = chance
        self._n_classes = len(classes)
        self._real = torch.nonzero(examples.is_real)[:, 0]
        self._others = torch.nonzero(~examples.is_real)[:, 0]
        self._course = course
        self.background = list(classes).index(BACKGROUND)

    def epoch(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Return the batches of an epoch.

        Each is the network's input [shape=(n, n_frames, N_MELS)], the share of each class in each
        frame [shape=(n, N_STEPS, n_classes)], and the loss weight of each frame, 0 or 1.
        """
        batch, n_real = self._course.batch, self._course.n_real
        real = self._some(self._real, n_real)
        others = self._some(self._others, int(n_real * OTHER_SHARE))
        order = torch.cat([real, others])
        order = order[torch.randperm(len(order), generator=self._chance)]
        for rows in torch.split(order[: self._course.n_batches * batch], batch):
            yield self._batch(rows)

    def _batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_mel = self._examples.log_mel[rows].float()
        targets = self._examples.targets[rows]
        moved = int(torch.randint(0, mixtures.N_STEPS, (1,), generator=self._chance))
        log_mel = torch.roll(log_mel, moved * cnn.FRAMES_PER_STEP, 1)
        targets = torch.roll(targets, moved, 1)
        shares = functional.one_hot(targets.clamp_min(0), self._n_classes).float()
        counts = (targets >= 0).float()
        if torch.rand(1, generator=self._chance) < MIXED_SHARE:
            log_mel, shares, counts = self._mixed(log_mel, targets, shares)
        return self._masked(cnn.relative(log_mel)), shares, counts

    def _some(self, rows: Tensor, how_many: int) -> Tensor:
        if not len(rows):
            return rows
        again = [
            rows[torch.randperm(len(rows), generator=self._chance)]
            for _ in range(-(-how_many // len(rows)))
        ]
        return torch.cat(again)[:how_many]

    def _mixed(
        self, log_mel: Tensor, targets: Tensor, shares: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mix each mixture with another one; background has no share beside a sound."""
        n = len(targets)
        partner = torch.randperm(n, generator=self._chance)
        # The larger share is between a half and one, and mostly near one.
        part = 0.5 + 0.5 * torch.cos(torch.pi / 2 * torch.rand(n, generator=self._chance))
        power = torch.pow(10.0, log_mel / 10.0)
        power = power / (power.sum(dim=2).mean(dim=1)[:, None, None] + 1e-9) * 1e-3
        both = power * part[:, None, None] + power[partner] * (1 - part[:, None, None])
        theirs = targets[partner]
        share = (1 - part)[:, None] * torch.ones(targets.shape)
        share = torch.where(targets == self.background, torch.ones_like(share), share)
        share = torch.where(theirs == self.background, torch.zeros_like(share), share)[..., None]
        of_partner = functional.one_hot(theirs.clamp_min(0), self._n_classes).float()
        counts = ((targets >= 0) & (theirs >= 0)).float()
        mixed = 10.0 * (both + cnn.FLOOR).log10()
        return mixed, shares * (1 - share) + of_partner * share, counts

    def _masked(self, frames: Tensor) -> Tensor:
        n = len(frames)
        first = torch.randint(0, cnn.N_MELS, (n, 1), generator=self._chance)
        width = torch.randint(0, _MASKED_BANDS + 1, (n, 1), generator=self._chance)
        is_masked = torch.rand(n, 1, generator=self._chance) < 0.5
        bands = torch.arange(cnn.N_MELS)[None]
        mask = (bands >= first) & (bands < first + width) & is_masked
        return frames.masked_fill(mask[:, None], -1.0)


def _loss(logits: Tensor, shares: Tensor, counts: Tensor, *, background: int) -> Tensor:
    """Cross entropy of the frames that count, and of each mixture's sound over its frames."""
    weights = torch.ones(logits.shape[2])
    weights[background] = BACKGROUND_WEIGHT
    by_step = -(shares * logits.log_softmax(dim=2) * weights).sum(dim=2)
    of_steps = (by_step * counts).sum() / counts.sum().clamp_min(1)
    is_sound = torch.ones(logits.shape[2])
    is_sound[background] = 0.0
    sounds = shares * is_sound
    weight = sounds.sum(dim=2) * counts
    total = weight.sum(dim=1)
    has_sound = (total > 1).float()
    truth = (sounds * weight[..., None]).sum(dim=1)
    truth = truth / truth.sum(dim=1, keepdim=True).clamp_min(1e-3)
    mean = (logits * weight[..., None]).sum(dim=1) / total.clamp_min(1e-3)[:, None]
    mean = mean.masked_fill(is_sound[None] == 0, -1e4)
    of_scenes = -(truth * mean.log_softmax(dim=1)).sum(dim=1) * has_sound
    return of_steps + SCENE_WEIGHT * of_scenes.sum() / has_sound.sum().clamp_min(1)


def _has_bfloat16() -> bool:
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
