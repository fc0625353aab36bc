"""Trains the convolutional network on scenes."""

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

#: The highest rate of learning, and weight decay.
RATE, DECAY = 3e-3, 0.02

#: Other scenes of an epoch, as a share of the real ones.
OTHER_SHARE = 0.2

#: How many batches are of scenes that were mixed in pairs.
MIXED_SHARE = 0.3

#: How much a step of background counts beside one of sound, and how much the scene as a whole
#: does beside its steps.
BACKGROUND_WEIGHT, SCENE_WEIGHT = 0.5, 0.5

#: Bands that are masked in half of the scenes, at most.
_MASKED_BANDS = 10

#: Held while torch draws the first weights: it draws them from a chance that threads share.
_DRAWING = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Course:
    """How large a network is, and how long it learns.

    Attributes
    ----------
    n_real
        Real scenes of an epoch, whatever the number of those there are. `OTHER_SHARE` times as
        many others come with them.
    epochs
        How often so many scenes are drawn.
    batch
        Scenes that the weights are moved by at once.
    widths, hidden
        Channels of the stages, and width of the last hidden layer.
    dropout
        Part of the values that is left out before the last layers.
    """

    n_real: int
    epochs: int = 50
    batch: int = 32
    widths: tuple[int, int, int] = (24, 48, 96)
    hidden: int = 128
    dropout: float = 0.3

    @property
    def n_batches(self) -> int:
        """Batches of an epoch, at most."""
        return max(1, int(self.n_real * (1 + OTHER_SHARE)) // self.batch)


@dataclass(frozen=True, eq=False)
class Spectra:
    """Scenes as the network sees them.

    ``log_mel`` [shape=(n, n_frames, N_MELS), dtype=float16] in dB; ``targets`` [shape=(n,
    N_STEPS), dtype=int64] is the column of each step's class, -1 where a step does not count;
    ``is_real`` tells scenes of recordings from the others.
    """

    log_mel: Tensor
    targets: Tensor
    is_real: Tensor

    def where(self, mask: NDArray[np.bool_]) -> Spectra:
        """The scenes of a mask."""
        kept = torch.from_numpy(mask)
        return Spectra(self.log_mel[kept], self.targets[kept], self.is_real[kept])


def spectra(made: Sequence[Scene], *, classes: Sequence[str], real: set[str]) -> Spectra:
    """The spectra of scenes; ``real`` names the clips that are recordings."""
    log_mel = torch.stack([cnn.log_mel(scene.samples).half() for scene in made])
    steps = np.stack([scene.steps for scene in made])
    labels = [scene.label for scene in made]
    is_real = torch.tensor([scene.clip in real for scene in made])
    return Spectra(log_mel, targets(steps, labels=labels, classes=classes), is_real)


def targets(steps: NDArray[np.int8], *, labels: Sequence[str], classes: Sequence[str]) -> Tensor:
    """The column of each step's class, -1 where it does not count; see `Spectra`.

    Takes the steps of scenes [shape=(n, N_STEPS)] and their labels. A scene in which no step is
    of its sound may have a label that is no class.
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
        What to learn from.
    classes
        The columns of the targets.
    course
        How large the network is, and how long it learns.
    seed
        The same examples and seed give the same network on the same processor.
    on_epoch
        Is told the number of each epoch that has ended, and its mean loss; may raise to stop.
    """
    chance = torch.Generator().manual_seed(seed)
    layers = _untrained(course, n_classes=len(classes), seed=seed)
    optimiser = torch.optim.AdamW(layers.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RATE, total_steps=course.epochs * course.n_batches, pct_start=0.15
    )
    batches = _Batches(examples, classes=classes, chance=chance, course=course)
    for epoch in range(course.epochs):
        layers.train()
        losses: list[float] = []
        for frames, shares, counts in batches.epoch():
            # Half precision where the processor has it: twice as fast, and no less accurate.
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
    """Layers with their first weights, and a chance of their own from there on."""
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


class _Batches:
    """Draws batches, each with its variation: moved in time, mixed in pairs, with masked bands."""

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
        """The batches of an epoch.

        Each is what the network sees [shape=(n, n_frames, N_MELS)], the share of each class at
        each step [shape=(n, N_STEPS, n_classes)], and which steps count, as 0 or 1.
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
        """Each scene with another one under it; background has no share beside a sound."""
        n = len(targets)
        partner = torch.randperm(n, generator=self._chance)
        # The larger part is between a half and one, and near one more often than not.
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
    """Cross entropy of the steps that count, and of each scene's sound over its steps."""
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
