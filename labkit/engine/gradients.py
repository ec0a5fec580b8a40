"""Gradients of the training loss: by autograd, or by hand for networks of dense layers alone.

A LeNet's products are so small that on a CPU autograd, the modules and new memory for every result
would cost up to half as much time again. By hand they need little (tests/benchmarks/training.py).
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.engine.layers import BatchNorm, Dense
from labkit.engine.networks import Population

Gradients = Callable[[Tensor, Tensor], list[Tensor]]


def gradients_of(
    network: Population, batch_size: int, precision: str = "float32", slimming: float = 0.0
) -> Gradients:
    """A function that differentiates the loss by each of the population's parameters.

    It takes images (R, B, C, H, W) and labels (R, B), B being the batch size, and its result holds
    until the next call. The loss of a replica is the mean cross-entropy of its batch.
    precision: "float32", or "bfloat16" for autocast, and by hand for products as autocast has them;
    weights stay in float32. slimming: strength of the L1 penalty on the gammas of batch
    normalisation.
    """
    if all(isinstance(m, Dense | nn.ReLU) for m in network.layers):
        return _by_hand(network, batch_size, precision)
    return _by_autograd(network, precision, slimming)


def autocast(precision: str, device: torch.device) -> torch.autocast | nullcontext[None]:
    """The context in which a network computes in this precision."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def _by_autograd(network: Population, precision: str, slimming: float) -> Gradients:
    parameters = list(network.parameters())
    gammas = [m.weight for m in network.modules() if isinstance(m, BatchNorm)]

    def gradients(images: Tensor, labels: Tensor) -> list[Tensor]:
        with autocast(precision, images.device):
            logits = network(images).float()  # (R, B, classes)
        # The sum of the replicas' losses gives each of them its own gradient.
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        (loss / labels.shape[1]).backward()  # with an argument it would import sympy: seconds
        if slimming:
            _penalise(gammas, slimming)
        return [_taken(parameter) for parameter in parameters]

    return gradients


@torch.no_grad()
def _penalise(gammas: list[nn.Parameter], strength: float) -> None:
    for gamma in gammas:
        assert gamma.grad is not None
        gamma.grad.add_(gamma.sign(), alpha=strength)


def _taken(parameter: nn.Parameter) -> Tensor:
    gradient, parameter.grad = parameter.grad, None
    assert gradient is not None
    return gradient


def _by_hand(network: Population, batch_size: int, precision: str) -> Gradients:
    """Backpropagation through dense layers with ReLU between them, always in the same memory."""
    parameters = [parameter.detach() for parameter in network.parameters()]  # they stay the same
    found = [torch.empty_like(parameter) for parameter in parameters]
    logits = parameters[-1].new_empty(len(parameters[-1]), batch_size, parameters[-1].shape[1])
    minus_one = torch.full_like(logits[..., :1], -1.0)
    # What is computed with: themselves, or rounded copies.
    half = precision == "bfloat16"
    rounded, rough = (
        [tensor.bfloat16() for tensor in tensors] if half else tensors
        for tensors in (parameters, found)
    )
    weights, biases = rounded[::2], [bias.unsqueeze(1) for bias in rounded[1::2]]
    outputs = [w.new_empty(len(w), batch_size, w.shape[1]) for w in weights]  # (R, B, out)
    errors = [torch.empty_like(output) for output in outputs]  # derivatives by what ReLU takes in

    @torch.no_grad()
    def gradients(images: Tensor, labels: Tensor) -> list[Tensor]:
        if half:
            torch._foreach_copy_(rounded, parameters)
        inputs = [images.flatten(2).to(weights[0]), *outputs[:-1]]
        for x, weight, bias, output in zip(inputs, weights, biases, outputs, strict=True):
            torch.baddbmm(bias, x, weight.mT, out=output)
            if output is not outputs[-1]:
                output.relu_()
        torch.softmax(outputs[-1], 2, logits.dtype, out=logits)
        logits.scatter_add_(2, labels.unsqueeze(2), minus_one).div_(batch_size)
        errors[-1].copy_(logits)
        for i in reversed(range(len(weights))):
            torch.bmm(errors[i].mT, inputs[i], out=rough[2 * i])
            torch.sum(errors[i], 1, out=rough[2 * i + 1])
            if i:
                torch.bmm(errors[i], weights[i], out=errors[i - 1])
                errors[i - 1].mul_(outputs[i - 1].sign())  # what ReLU cut off has no part in it
        if half:
            torch._foreach_copy_(found, rough)
        return found

    return gradients
