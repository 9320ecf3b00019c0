"Invariants of the papers over many shapes, beside the ones that the notebooks show."
import numpy as np, pytest, torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import nn

from lesionlab.backbones import densenet2d
from lesionlab.boxes import iou3d, nms
from lesionlab.detectors import build_detector
from lesionlab.heatmaps import focal_loss, heatmap
from lesionlab.p3dc import ACSConv3d, acs_split, convert, i3d_conv, slicewise_conv, ST3DConv
from lesionlab.surface_points import points_loss, points_to_boxes

few = settings(max_examples=25, deadline=None)


def _embedded(layer):
    "An ACS layer's kernels in N x N x N zeros."
    n, sizes = layer.kernel_size[0], acs_split(len(layer.weight) // layer.groups)
    w, mid = torch.zeros(*layer.weight.shape[:2], n, n, n), n // 2
    for i, k in enumerate(layer.weight.detach()):
        j = i % sum(sizes)
        if j < sizes[0]: w[i, :, mid] = k
        elif j < sizes[0] + sizes[1]: w[i, :, :, mid] = k
        else: w[i, :, :, :, mid] = k
    return w


@few
@given(co=st.integers(1, 24), ci=st.integers(1, 5), n=st.sampled_from([1, 3, 5, 7]), stride=st.integers(1, 3), dilation=st.integers(1, 2), bias=st.booleans())
def test_acs_is_one_conv3d(co, ci, n, stride, dilation, bias):
    torch.manual_seed(0)
    layer, x = ACSConv3d(ci, co, n, stride, dilation, bias=bias), torch.randn(1, ci, 6, 9, 8)
    whole = F.conv3d(x, _embedded(layer), layer.bias, (1, stride, stride), dilation * (n - 1) // 2, dilation)
    torch.testing.assert_close(layer(x), whole, rtol=1e-4, atol=1e-4)
    flat = nn.Conv2d(ci, co, n, stride, dilation * (n - 1) // 2, dilation, bias=bias)
    flat.load_state_dict(layer.state_dict())                      # the same parameters, biases too
    slices = torch.stack([flat(s) for s in x.unbind(2)], 2)
    axial = acs_split(co)[0]
    torch.testing.assert_close(layer(x)[:, :axial], slices[:, :axial], rtol=1e-4, atol=1e-4)


@few
@given(co=st.integers(1, 8), ci=st.integers(1, 4), n=st.sampled_from([1, 3, 5]), stride=st.integers(1, 2))
def test_i3d_slicewise_and_st3d_hold_the_2d_answer(co, ci, n, stride):
    torch.manual_seed(0)
    conv = nn.Conv2d(ci, co, n, stride, n // 2)
    x = torch.randn(1, ci, 7, 9, 8)
    truth = torch.stack([conv(s) for s in x.unbind(2)], 2)
    torch.testing.assert_close(slicewise_conv(conv)(x), truth, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ST3DConv(conv)(x), truth, rtol=1e-4, atol=1e-5)
    flat = x[:, :, :1].expand(-1, -1, 11, -1, -1)
    inner = slice(n // 2, 11 - n // 2)
    torch.testing.assert_close(i3d_conv(conv)(flat)[:, :, inner], slicewise_conv(conv)(flat)[:, :, inner], rtol=1e-4, atol=1e-5)


def test_norms_and_pools_per_slice():
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True), nn.BatchNorm2d(8), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2)).eval()
    x = torch.randn(2, 1, 5, 12, 12)
    torch.testing.assert_close(convert(net, 'slicewise')(x), torch.stack([net(s) for s in x.unbind(2)], 2), rtol=1e-5, atol=1e-6)


def test_converting_leaves_the_network_alone():
    net = densenet2d(1, 4, 8, (2, 2, 2))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    threed = convert(net, 'acs')
    with torch.no_grad(): [p.add_(1) for p in threed.parameters()]
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert sum(p.numel() for p in threed.parameters()) == sum(p.numel() for p in net.parameters())


def test_shared_modules_stay_shared():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    made = convert(nn.Sequential(conv, nn.ReLU(), conv), 'acs')
    assert made[0] is made[2] and len(list(made.parameters())) == 2


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
    model = build_detector('vld', 'tiny', blocks=(2, 2, 2), points=points)
    losses = model.loss(model(torch.rand(1, 1, 4, 32, 32)), dict(boxes=[torch.zeros(0, 6)]))
    losses['total'].backward()
    assert torch.isfinite(losses['total']) and all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_dynamic_ct_takes_phases_as_channels():
    model = build_detector('vld', 'tiny', blocks=(2, 2, 2), channels=4).eval()
    assert model(torch.rand(1, 4, 4, 32, 32))['heat'].shape == (1, 1, 4, 8, 8)


def test_triplet_moves_the_points():
    "The gradient of eq. 5 reaches the coordinates of P_r: through them, the maps that predict them."
    model = build_detector('vld', 'tiny', blocks=(2, 2, 2), points='spr')
    maps = model(torch.rand(1, 1, 8, 32, 32))
    model.loss(maps, dict(boxes=[torch.tensor([[2., 8, 8, 6, 24, 24]])]))['triplet'].backward()
    head = model.extent.outputs
    assert head['points'].bias.grad.abs().sum() > 0 and head['refine'].bias.grad.abs().sum() > 0
