"""The output layer over chosen rows only, in chunks, so that logits never take more than a bounded memory.

Shape letters: M rows, C rows of a chunk, D hidden size, V vocabulary.
"""

import torch
import torch.nn.functional as fn
from torch import Tensor

from trainyard.engine.losses import Loss, LossInputs

CHUNK_LOGITS = 1 << 21
"""Logits held at once: 8 MiB in float32, so that a chunk stays in the last-level cache of a small machine."""


def chunk_rows(vocab_size: int) -> int:
    """Count the rows whose logits fit into `CHUNK_LOGITS`, at least 16."""
    return max(16, CHUNK_LOGITS // vocab_size)


def logprobs(hidden_MD: Tensor, weight_VD: Tensor, targets_M: Tensor) -> Tensor:
    """Compute log p(target) of each row, (M,) float32."""
    out = []
    rows = chunk_rows(weight_VD.shape[0])
    for hidden_CD, targets_C in zip(torch.split(hidden_MD, rows), torch.split(targets_M, rows), strict=True):
        logits_CV = fn.linear(hidden_CD, weight_VD.to(hidden_CD.dtype)).float()
        picked_C = logits_CV.gather(1, targets_C[:, None])[:, 0]
        out.append(picked_C - logits_CV.logsumexp(1))
    return torch.cat(out) if out else torch.empty(0, device=hidden_MD.device)


def loss_and_gradient(
    hidden_MD: Tensor, weight_VD: Tensor, targets_M: Tensor, inputs: LossInputs, loss: Loss
) -> tuple[Tensor, Tensor]:
    """Compute the loss of each row and the gradient of their sum in one go, so that each chunk's logits are made once.

    Returns:
        (loss_M float32, gradient_MD in the dtype of hidden): d sum(loss) / d hidden.

    Source:
        d log p(y) / d logits = onehot(y) - softmax(logits); the loss's own derivative comes from autograd on its
        (C,) arguments.
    """
    loss_M = torch.empty(len(targets_M), device=hidden_MD.device)
    gradient_MD = torch.empty_like(hidden_MD)
    weight = weight_VD.to(hidden_MD.dtype)
    rows = chunk_rows(weight_VD.shape[0])
    for start in range(0, len(targets_M), rows):
        part = slice(start, start + rows)
        logits_CV = fn.linear(hidden_MD[part], weight).float()
        targets_C1 = targets_M[part, None]
        normaliser_C1 = logits_CV.logsumexp(1, keepdim=True)
        logprob_C = (logits_CV.gather(1, targets_C1) - normaliser_C1)[:, 0]
        loss_C, slope_C = _slope(logprob_C, LossInputs(inputs.weights_M[part]), loss)
        probability_CV = logits_CV.sub_(normaliser_C1).exp_()
        grad_CV = probability_CV.mul_(-slope_C[:, None]).scatter_add_(1, targets_C1, slope_C[:, None])
        loss_M[part] = loss_C
        gradient_MD[part] = grad_CV.to(weight.dtype) @ weight
    return loss_M, gradient_MD


def _slope(logprob_C: Tensor, inputs: LossInputs, loss: Loss) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf_C = logprob_C.detach().requires_grad_()
        loss_C = loss(leaf_C, inputs)
        (slope_C,) = torch.autograd.grad(loss_C.sum(), leaf_C)
    return loss_C.detach(), slope_C
