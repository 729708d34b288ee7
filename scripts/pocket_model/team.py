"""Several processes of one thread each train together: they average gradients and share the work of the optimiser.

Threads within one process wait for each other in every operation, processes only once a step; on cores that other
programs use too, that decides.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn


@dataclass(frozen=True)
class Team:
    """One member's view of the processes that train together; a team of one does nothing."""

    rank: int = 0
    size: int = 1

    def owned(self, matrices: Sequence[nn.Parameter], rank: int) -> list[nn.Parameter]:
        """Name the matrices that the member of a rank updates; the large ones are dealt out first."""
        return sorted(matrices, key=lambda matrix: -matrix.numel())[rank :: self.size]

    def average(self, parameters: Sequence[nn.Parameter], spent: tuple[float, float]) -> tuple[float, float]:
        """Replace every gradient by the mean over the members.

        Returns:
            What the first member has spent, so that all stop at the same step.
        """
        if self.size == 1:
            return spent
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        shared = torch.tensor(spent) * (self.rank == 0)
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), shared])
        torch.distributed.all_reduce(flat)
        flat[:-2] /= self.size
        _unflatten(flat[:-2], gradients)
        return flat[-2].item(), flat[-1].item()

    def publish(self, matrices: Sequence[nn.Parameter]) -> None:
        """Give every member the matrices as their owner updated them."""
        if self.size == 1:
            return
        for rank in range(self.size):
            owned = [matrix.detach() for matrix in self.owned(matrices, rank)]
            flat = torch.cat([matrix.flatten() for matrix in owned])
            torch.distributed.broadcast(flat, rank)
            _unflatten(flat, owned)


def _unflatten(flat: Tensor, targets: Sequence[Tensor]) -> None:
    for target, part in zip(targets, torch.split(flat, [target.numel() for target in targets]), strict=True):
        target.copy_(part.view_as(target))


def join(rank: int, size: int, meeting_file: str) -> Team:
    """Meet the other members over the loopback interface; a team of one needs no meeting."""
    torch.set_num_threads(1)
    if size > 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        torch.distributed.init_process_group("gloo", init_method=f"file://{meeting_file}", rank=rank, world_size=size)
    return Team(rank, size)
