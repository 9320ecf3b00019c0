"Invariants of the papers over many shapes, beside the ones that the notebooks show."
import pytest, torch
from hypothesis import given, settings, strategies as st

from lesionlab.annotations.boxes import iou3d, nms
from lesionlab.data.crops import Batch
from lesionlab.detectors.heatmaps import focal_loss, heatmap
from lesionlab.detectors.surface_points import points_loss, points_to_boxes
from lesionlab.detectors.registry import make_detector

few = settings(max_examples=25, deadline=None)


@few
@given(st.lists(st.tuples(*[st.floats(0, 12)] * 3, *[st.floats(.2, 9)] * 3), max_size=5))
def test_heatmap_is_one_at_centres_alone(raw):
    lo, size = (torch.tensor(raw).reshape(-1, 6)[:, i:i+3] for i in (0, 3))
    boxes = torch.cat([lo, lo + size], 1)
    target = heatmap(boxes, (24, 24, 24))
    cells = ((boxes[:, :3] + boxes[:, 3:]) / 2).floor().long()
    assert (target[tuple(cells.T)] == 1).all()
    assert (target == 1).sum() == len(cells.unique(dim=0)) and target.min() >= 0


def test_hard_negative_weighs_sixteen_and_no_lesion_is_no_error():
    logits = torch.zeros(1, 1, 1, 2)
    plain, hard = (focal_loss(logits, torch.tensor([[[[0., v]]]])) for v in (0., -1.))
    one = plain / 2
    torch.testing.assert_close(hard - one, 16 * one)
    assert torch.isfinite(focal_loss(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4)))


@few
@given(st.integers(4, 16), st.integers(0, 999))
def test_points_loss_is_zero_exactly_when_extremes_touch(n, seed):
    g = torch.Generator().manual_seed(seed)
    points = torch.rand(1, n, 3, generator=g) * 8
    box = points_to_boxes(points)
    assert points_loss(points, points, box).item() == 0
    assert points_loss(points, points * 1.01, box).item() > 0


def test_boxes_at_scale():
    "Three thousand boxes are no matter for the suppression."
    g = torch.Generator().manual_seed(0)
    lo = torch.rand(3000, 3, generator=g) * 500
    boxes = torch.cat([lo, lo + 5 + torch.rand(3000, 3, generator=g) * 30], 1)
    keep = nms(boxes, torch.rand(3000, generator=g), .3)
    overlap = iou3d(boxes[keep], boxes[keep]).fill_diagonal_(0)
    assert overlap.max() <= .3 and len(keep) < 3000


@pytest.mark.parametrize('points', ['spr', 'drp', 'none'])
def test_lesion_free_batch_trains(points):
    model = make_detector('vld_acs_spr', 'tiny', blocks=(2, 2, 2), points=points)
    losses = model.loss(model(torch.rand(1, 1, 4, 32, 32)), Batch([torch.zeros(0, 6)]))
    losses['total'].backward()
    assert torch.isfinite(losses['total'])
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_dynamic_ct_takes_phases_as_channels():
    model = make_detector('vld_acs_spr', 'tiny', blocks=(2, 2, 2), channels=4).eval()
    assert model(torch.rand(1, 4, 4, 32, 32))['heat'].shape == (1, 1, 4, 8, 8)


def test_triplet_moves_the_points():
    "The gradient of eq. 5 reaches the coordinates of P_r: through them, the maps that predict them."
    model = make_detector('vld_acs_spr', 'tiny', blocks=(2, 2, 2), points='spr')
    maps = model(torch.rand(1, 1, 8, 32, 32))
    model.loss(maps, Batch([torch.tensor([[2., 8, 8, 6, 24, 24]])]))['triplet'].backward()
    head = model.extent.outputs
    assert head['points'].bias.grad.abs().sum() > 0 and head['refine'].bias.grad.abs().sum() > 0
