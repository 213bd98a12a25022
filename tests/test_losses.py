"""Losses against values worked by hand, against the metrics in numpy, and against PyTorch's own."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from salgan_edge.train import losses  # noqa: E402
from salgan_edge.train.config import CONTENT_WEIGHTS  # noqa: E402
from salgan_edge.train.losses import (  # noqa: E402
    Prediction,
    cast_text,
    content_terms,
)

from salgan_edge import metrics  # noqa: E402


def test_examples_in_the_docstrings():
    found = doctest.testmod(losses, extraglobs={"torch": torch})
    assert found.attempted >= 7
    assert found.failed == 0


def test_divergence_by_hand():
    target = torch.tensor([[0.5, 0.5]])
    logits = torch.tensor([[math.log(0.25), math.log(0.75)]])
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert losses.divergence(logits, target).item() == pytest.approx(expected, abs=1e-6)
    assert losses.divergence(logits + 3, torch.softmax(logits, -1)).item() == pytest.approx(0, abs=1e-6)


def test_binary_cross_entropy_by_hand():
    """Equation 1 on two cells: S = (1, 0.25), S^ = (0.5, 0.8)."""
    predicted = Prediction.of_pixels(torch.tensor([[0.0, math.log(4)]]))
    expected = -(math.log(0.5) + 0.25 * math.log(0.8) + 0.75 * math.log(0.2)) / 2
    loss = losses.binary_cross_entropy(predicted, torch.tensor([[1.0, 0.25]]))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_contrast_by_hand():
    """Three texts: the first two differ in the human maps, the third is like the first."""
    human = torch.tensor([[[0.6, 0.2, 0.2]], [[0.2, 0.2, 0.6]], [[0.6, 0.2, 0.2]]])
    predicted = torch.tensor([[[0.5, 0.3, 0.2]], [[0.2, 0.3, 0.5]], [[0.2, 0.3, 0.5]]])
    # Differences 1-2: predicted (.3, 0, -.3), human (.4, 0, -.4): correlation 1. 2-3: predicted 0, so
    # correlation 0. 1-3: human alike, weight 0.
    assert losses.contrast(predicted, human).tolist() == pytest.approx([0.0, 0.5, 1.0], abs=1e-6)
    # A constant part that all texts share changes nothing.
    shared = torch.tensor([[[0.0, 0.7, 0.1]]])
    assert losses.contrast(predicted + shared, human).tolist() == pytest.approx([0.0, 0.5, 1.0], abs=1e-5)
    assert losses.contrast(predicted[:1], human[:1]).tolist() == [0.0]
    # Its gradient is finite where the maps of two texts are still the same.
    logits = torch.zeros(2, 2, 2, requires_grad=True)
    losses.contrast(
        Prediction.of_density(logits).density, losses.density(torch.rand(2, 2, 2))
    ).sum().backward()
    assert logits.grad.isfinite().all()


def test_contrast_is_the_metric_guide():
    """Where the term is below 1 for two texts, `guide` counts the pair as won."""
    torch.manual_seed(0)
    for _ in range(40):
        p, h = losses.density(torch.rand(2, 5, 5)), losses.density(torch.rand(2, 5, 5))
        # Maps of equal spread, for which the two are the same.
        p, h = ((x - 0.04) / (x - 0.04).flatten(1).norm(dim=1)[:, None, None] for x in (p, h))
        won = metrics.guide([(p[0].numpy(), p[1].numpy(), h[0].numpy(), h[1].numpy())])
        assert (losses.contrast(p, h)[0] < 1) == (won == 1)


def test_binary_cross_entropy_of_certain_pixels():
    """Wrong and certain: finite, as PyTorch's stable form has it, and with a gradient."""
    logits = torch.tensor([[40.0, -40.0]], requires_grad=True)
    target = torch.tensor([[0.0, 1.0]])
    loss = losses.binary_cross_entropy(Prediction.of_pixels(logits), target)
    oracle = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
    assert loss.item() == pytest.approx(oracle.item())
    loss.sum().backward()
    assert logits.grad.tolist() == [[0.5, -0.5]]


def test_predictions_of_both_kinds():
    logits = torch.tensor([[1.0, 3.0], [2.0, 3.0]])
    pixels, relative = Prediction.of_pixels(logits), Prediction.of_density(logits)
    assert torch.allclose(pixels.map, torch.sigmoid(logits))
    assert torch.allclose(pixels.density, torch.sigmoid(logits) / torch.sigmoid(logits).sum())
    assert torch.allclose(relative.map, torch.exp(logits - 3))
    assert torch.allclose(relative.density.flatten(), torch.softmax(logits.flatten(), 0))
    assert torch.allclose(torch.exp(relative.log_rest)[0, :1], 1 - torch.exp(torch.tensor([-2.0])))
    assert relative.log_rest.isfinite().all()


def test_scanpath_saliency_by_hand():
    # Mean 1, standard deviation 1: two fixations on the bright cell, one on the dark one.
    loss = losses.scanpath_saliency(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 2.0]]))
    assert loss.item() == pytest.approx((2 - 1) / 3)
    assert losses.scanpath_saliency(torch.rand(3, 3), torch.zeros(3, 3)).item() == 0


def test_adversarial_loss_by_hand():
    logits = torch.tensor([0.0, math.log(3)])
    # D says 1/2 and 3/4 for a human's.
    assert torch.allclose(losses.adversarial_loss(logits, human=True), -torch.log(torch.tensor([0.5, 0.75])))
    assert torch.allclose(losses.adversarial_loss(logits, human=False), -torch.log(torch.tensor([0.5, 0.25])))


@pytest.mark.parametrize("kind", ["of_pixels", "of_density"])
def test_losses_are_the_metrics(kind):
    """Two implementations, one in torch and one in numpy, on random maps."""
    torch.manual_seed(0)
    predicted = getattr(Prediction, kind)(torch.randn(3, 6, 7))
    human, fixations = torch.rand(3, 6, 7), torch.randint(0, 3, (3, 6, 7))
    terms = content_terms(predicted, losses.density(human), fixations.float(), CONTENT_WEIGHTS)
    for n in range(3):
        p, h, f = predicted.map[n].numpy(), human[n].numpy(), fixations[n].numpy()
        assert terms["kl"][n].item() == pytest.approx(metrics.kl_divergence(p, h), abs=1e-5)
        assert 1 - terms["cc"][n].item() == pytest.approx(metrics.cc(p, h), abs=1e-5)
        assert 1 - terms["sim"][n].item() == pytest.approx(metrics.sim(p, h), abs=1e-5)
        assert -terms["nss"][n].item() == pytest.approx(metrics.nss(p, f), abs=1e-5)
        top = h / h.max()
        assert terms["mse"][n].item() == pytest.approx(((p - top) ** 2).mean(), abs=1e-5)
        if kind == "of_pixels":
            expected = -(top * np.log(p) + (1 - top) * np.log(1 - p)).mean()
            assert terms["bce"][n].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", [name for name in CONTENT_WEIGHTS if name != "contrast"])
@pytest.mark.parametrize("kind", ["of_pixels", "of_density"])
def test_every_term_leads_to_the_human_map(name, kind):
    """Gradient descent on a term alone raises the correlation with a human map."""
    torch.manual_seed(1)
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    human = torch.exp(-((rows - 2) ** 2 + (columns - 5) ** 2) / 4)
    logits = (0.1 * torch.randn(8, 8)).requires_grad_()
    optimizer = torch.optim.Adam([logits], 0.05)

    def step():
        predicted = getattr(Prediction, kind)(logits)
        term = content_terms(predicted, losses.density(human), (human > 0.7).float(), [name])[name]
        optimizer.zero_grad()
        term.backward()
        optimizer.step()
        return metrics.cc(predicted.map.detach().numpy(), human.numpy())

    before = step()
    for _ in range(50):
        after = step()
    assert after > max(before + 0.2, 0.5)


def test_unknown_terms():
    predicted = Prediction.of_pixels(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="no content term 'auc'"):
        content_terms(predicted, torch.full((2, 2), 0.25), None, ["auc"])
    with pytest.raises(ValueError, match="needs fixations"):
        content_terms(predicted, torch.full((2, 2), 0.25), None, ["nss"])


def test_integer_cast():
    """Truncation toward zero at the length of CLIP's vectors, 9.5: entries below 1/9.5 vanish."""
    text = torch.tensor([0.1, -0.1, 0.12, -0.25, 0.0])
    assert torch.allclose(cast_text(text, "integer") * 9.5, torch.tensor([0.0, 0.0, 1.0, -2.0, 0.0]))
    assert cast_text(text, "float") is text
