"""The converters' invariants (VLD, sec. 2.1), in double precision.

They are swept over kernels, strides, dilations, groups, padding and channels."""
import copy, itertools, pickle, pytest, torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.nn.utils import prune

from lesionlab.nets.convolutions import ACSConv3d, acs_split
from lesionlab.nets.layers import KINDS, acs_conv, inflated_conv, st3d_conv, transposed_conv
from lesionlab.nets.pseudo3d import adapt_first_conv, convert, load_2d, state_2d
from lesionlab.nets.backbones import densenet2d

many = settings(max_examples=60, deadline=None)
KERNELS = st.sampled_from([1, 3, 5, 7, (1, 3), (3, 1), (3, 5), (7, 1), (5, 3)])
STRIDES = st.just((1, 1, 1)) | st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 2))
MODES = st.sampled_from(['zeros', 'reflect', 'replicate', 'circular'])


@pytest.fixture(autouse=True)
def in_double():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def per_slice(net, x): return torch.stack([net(s) for s in x.unbind(2)], 2)


def same(a, b): torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def view_of(layer):
    "The view (0 axial, 1 coronal, 2 sagittal) of each output channel; the groups of a depthwise layer share them out."
    groups, co = layer.groups, layer.out_channels // layer.groups
    deep = groups > 1 and groups in (layer.in_channels, layer.out_channels)
    sizes = acs_split(groups if deep else co)
    views = [view for view, size in enumerate(sizes) for _ in range(size)]
    return [views[o // co if deep else o % co] for o in range(layer.out_channels)]


def embedded(layer):
    """The kernels of the one dense convolution that an ACS layer computes.

    They are cubes that hold every view, with dilation and groups spelled out."""
    co, each = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    (kh, kw), (dh, dw), views = layer.kernel_size, layer.dilation, view_of(layer)
    mid = max(dh * (kh - 1) // 2, dw * (kw - 1) // 2)
    w = torch.zeros(layer.out_channels, layer.in_channels, *[2 * mid + 1] * 3)
    for o, kernel in enumerate(layer.weight.detach()):
        group, view = o // co, views[o]
        for i, a, b in itertools.product(range(each), range(kh), range(kw)):
            at = [mid + (a - kh // 2) * dh, mid + (b - kw // 2) * dw]
            at.insert(view, mid)
            w[(o, group * each + i, *at)] = kernel[i, a, b]
    return w, mid


def dense(layer, x, padding):
    "What an ACS layer must answer, by brute force."
    w, mid = embedded(layer)
    mode = 'constant' if layer.padding_mode == 'zeros' else layer.padding_mode
    x = F.pad(x, [p for p in reversed(padding) for _ in range(2)], mode)
    crop = [mid - b for b in layer.block]  # the cube is larger than the block that padding belongs to
    return F.conv3d(F.pad(x, [c for c in reversed(crop) for _ in range(2)]), w, layer.bias, layer.stride)


@many
@given(co=st.integers(1, 24), ci=st.sampled_from([1, 2, 9]), kernel=KERNELS, stride=STRIDES,
       dilation=st.sampled_from([1, 2, (1, 2)]), padding=st.sampled_from(['same', 0, 1, (0, 1, 2)]), bias=st.booleans(),
       mode=MODES)
def test_acs_is_one_convolution(co, ci, kernel, stride, dilation, padding, bias, mode):
    layer = ACSConv3d(ci, co, kernel, stride, padding, dilation, bias=bias, padding_mode=mode)
    x = torch.randn(2, ci, 13, 14, 15)
    same(layer(x), dense(layer, x, layer.padding))


@many
@given(groups=st.integers(2, 4), each=st.integers(1, 2), times=st.sampled_from([1, 2, 3, 12]), stride=st.integers(1, 2),
       bias=st.booleans())
def test_acs_with_groups(groups, each, times, stride, bias):
    layer = ACSConv3d(groups * each, groups * times, 3, stride, 1, groups=groups, bias=bias)
    x = torch.randn(1, groups * each, 5, 6, 7)
    same(layer(x), dense(layer, x, (1, 1, 1)))


def test_depthwise_acs_shares_out_its_groups():
    layer, x = ACSConv3d(20, 20, 7, padding=3, groups=20), torch.randn(1, 20, 9, 9, 9)
    same(layer(x), dense(layer, x, (3, 3, 3)))
    axial = F.conv3d(x[:, :16], layer.weight[:16].unsqueeze(2), layer.bias[:16], padding=(0, 3, 3), groups=16)
    same(layer(x)[:, :16], axial)


@pytest.mark.parametrize('channels', [1, 2, 3, 32, 64])
def test_few_channels_and_their_gradients(channels):
    "Products of matrices, which small views are computed by, have the gradients of the convolution."
    layer, x = ACSConv3d(3, channels, 3, padding=1), torch.randn(2, 3, 4, 5, 6, requires_grad=True)
    dense_layer = nn.Conv3d(3, channels, 3, padding=1)
    dense_layer.load_state_dict(dict(weight=embedded(layer)[0], bias=layer.bias))
    g = torch.randn(2, channels, 4, 5, 6)
    ours, = torch.autograd.grad(layer(x), x, g)
    theirs, = torch.autograd.grad(dense_layer(x), x, g)
    same(ours, theirs)
    layer(x).backward(g)
    axial, coronal, _ = acs_split(channels)
    grad, dense_grad = layer.weight.grad, torch.autograd.grad(dense_layer(x), dense_layer.weight, g)[0]
    same(grad[:axial], dense_grad[:axial, :, 1])
    if coronal: same(grad[axial:axial+coronal], dense_grad[axial:axial+coronal, :, :, 1])


def test_swapping_axes_swaps_views():
    layer, x = ACSConv3d(4, 3, 5, padding=2, bias=False), torch.randn(1, 4, 6, 7, 8)
    with torch.no_grad(): layer.weight[1:] = layer.weight[:1]
    axial, coronal, sagittal = layer(x)[0]
    same(axial, layer(x.transpose(2, 3))[0, 1].transpose(0, 1))
    same(coronal, layer(x.transpose(3, 4))[0, 2].transpose(1, 2))


@many
@given(ci=st.integers(1, 3), co=st.integers(1, 12), kernel=KERNELS, stride=st.sampled_from([1, 2, (1, 2)]),
       dilation=st.integers(1, 2), bias=st.booleans(), mode=MODES, groups=st.integers(1, 2))
def test_every_kind_holds_the_2d_answer(ci, co, kernel, stride, dilation, bias, mode, groups):
    conv = nn.Conv2d(ci * groups, co * groups, kernel, stride, padding=0, dilation=dilation, groups=groups, bias=bias,
                     padding_mode=mode)
    conv.padding = tuple(dilation * (k - 1) // 2 for k in conv.kernel_size)
    conv._reversed_padding_repeated_twice = [p for p in reversed(conv.padding) for _ in range(2)]
    x = torch.randn(1, ci * groups, 14, 14, 15)
    truth = per_slice(conv, x)
    same(inflated_conv(conv)(x), truth)
    same(st3d_conv(conv)(x), truth)
    same(st3d_conv(conv, fuse=False)(x)[:, :co * groups], truth)
    acs = acs_conv(conv)
    assert sum(p.numel() for p in acs.parameters()) == sum(p.numel() for p in conv.parameters())
    axial = [i for i, view in enumerate(view_of(acs)) if view == 0]
    same(acs(x)[:, axial], truth[:, axial])
    level, reach = x[:, :, :1].expand(-1, -1, 19, -1, -1), dilation * (conv.kernel_size[0] - 1) // 2
    inner = slice(reach, 19 - reach)
    same(inflated_conv(conv, conv.kernel_size[0])(level)[:, :, inner], per_slice(conv, level)[:, :, inner])


@pytest.mark.parametrize('channels, dtype', [(1, torch.float32), (3, torch.bfloat16), (8, torch.float64)])
def test_dtype_mode_and_frozen_weights_come_through(channels, dtype):
    conv = nn.Conv2d(2, channels, 3, padding=1, padding_mode='reflect')
    net = nn.Sequential(conv, nn.BatchNorm2d(channels)).to(dtype).eval()
    net[0].weight.requires_grad_(False)
    for kind in KINDS:
        new = convert(net, kind)
        assert all(p.dtype == dtype for p in new.parameters()) and not new.training and not new[1].training
        layer = new[0].spatial if kind == 'st3d' else new[0]
        assert not layer.weight.requires_grad and layer.bias.requires_grad
        assert torch.isfinite(new(torch.randn(1, 2, 4, 6, 6, dtype=dtype))).all()


@pytest.mark.parametrize('settings, slicewise', [
    (dict(kernel_size=2, stride=2), True), (dict(kernel_size=3), True), (dict(kernel_size=3, padding=2), True),
    (dict(kernel_size=3, padding='valid'), True), (dict(kernel_size=3, padding='same', dilation=2), False),
    (dict(kernel_size=5, padding=2), False)])
def test_layers_whose_views_would_differ_are_slicewise_and_listed(settings, slicewise):
    conv, x = nn.Conv2d(2, 12, **settings), torch.randn(1, 2, 5, 9, 9)
    new = convert(conv, 'acs')
    assert (new.conversions[0].became == 'slicewise', bool(new.conversions[0].why)) == (slicewise, slicewise)
    if slicewise: same(new(x), per_slice(conv, x))


@pytest.mark.parametrize('n, s, p, out', [(2, 2, 0, 0), (3, 2, 1, 1), (4, 2, 1, 0), (3, 1, 1, 0)])
def test_transposed_convolutions(n, s, p, out):
    conv = nn.ConvTranspose2d(3, 4, n, s, p, out)
    x = torch.randn(1, 3, 6, 5, 5)
    for kind in KINDS: same(convert(conv, kind)(x), per_slice(conv, x))
    if n % s == 0 and s > 1: # every voxel is met by as many copies: the answer on a constant volume is the 2D one
        level = x[:, :, :1].expand(-1, -1, 8, -1, -1)
        up = transposed_conv(conv)(level)
        same(up[:, :, n:-n], per_slice(conv, level).repeat_interleave(s, 2)[:, :, n:up.shape[2]-n])


def test_depth_strides_where_asked():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.MaxPool2d(2), nn.AvgPool2d(2))
    x = torch.randn(1, 1, 16, 16, 16)
    for patterns, depth in (((), 16), ('0', 8), ('*', 2), (('1', '2'), 4)):
        assert convert(net, 'i3d', depth_stride=patterns)(x).shape[2] == depth
    level = x[:, :, :1].expand(-1, -1, 16, -1, -1)
    same(convert(net, 'slicewise', depth_stride='*')(level), per_slice(net, level)[:, :, ::8])


class Custom(nn.Module):
    "Code that counts axes."
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 10, 3, padding=1), nn.LayerNorm(10)
        self.scale, self.fc = nn.Parameter(torch.randn(10, 1, 1)), nn.Linear(10, 3)

    def forward(self, x, scale=1.):
        if scale is None: raise RuntimeError('stopped')
        y = self.norm(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2) * self.scale * scale
        y = F.interpolate(y, scale_factor=2, mode='bilinear')
        return dict(map=y, logits=self.fc(F.adaptive_avg_pool2d(y, 1).flatten(1)))


@pytest.mark.parametrize('kind', ['slicewise', 'st3d'])
def test_code_that_counts_axes(kind):
    net, x = Custom(), torch.randn(3, 2, 10, 6, 6) # as many slices as channels: no wrong axis hides
    new = convert(net, kind)
    out, truth = new(x, scale=.5), [net(s, .5) for s in x.unbind(2)]
    same(out['map'], torch.stack([t['map'] for t in truth], 2))
    same(out['logits'], torch.stack([t['logits'] for t in truth], 1))
    with pytest.raises(RuntimeError, match='stopped'): new(x, scale=None)
    same(new.conv(x), per_slice(net.conv, x)) # a part by itself, also after a failure
    again = pickle.loads(pickle.dumps(copy.deepcopy(new)))
    same(again(x)['map'], new(x)['map'])
    assert again.conv is not new.conv and again(x)['logits'].shape == (3, 10, 3)


@pytest.mark.parametrize('kind', ['slicewise', 'i3d', 'acs'])
def test_a_network_that_does_not_count_axes_runs_either_way(kind):
    net, x = densenet2d(1, 4, 8, (2, 2, 2)).eval(), torch.randn(2, 1, 5, 32, 32)
    same(convert(net, kind)(x), convert(net, kind, slices=False)(x))


def test_norms_and_pools_per_slice():
    norms = nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True), nn.BatchNorm2d(8)
    pools = nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2)
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), *norms, *pools, nn.Dropout2d()).eval()
    x = torch.randn(2, 1, 5, 12, 12)
    same(convert(net, 'slicewise')(x), per_slice(net, x))


def test_converting_leaves_the_network_alone():
    net = Custom()
    before, hooks = copy.deepcopy(net.state_dict()), len(net._forward_hooks)
    new = convert(net, 'acs')
    with torch.no_grad(): [p.add_(1) for p in new.parameters()]
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items()) and len(net._forward_hooks) == hooks == 0
    assert sum(p.numel() for p in new.parameters()) == sum(p.numel() for p in net.parameters())
    assert net(torch.randn(1, 2, 6, 6))['map'].dim() == 4


def test_shared_layers_stay_shared():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    made = convert(nn.Sequential(conv, nn.ReLU(), conv), 'acs')
    assert made[0] is made[2] and len(list(made.parameters())) == 2


@pytest.mark.parametrize('kind', KINDS)
def test_training_reaches_every_weight(kind):
    chain = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 12, 3, padding=1)
    net = convert(nn.Sequential(*chain), kind)
    net(torch.randn(2, 1, 5, 8, 8)).square().mean().backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    waiting = [n for n in idle if '.temporal.' in n] # for the first step of the fusing layer
    assert idle == (waiting if kind == 'st3d' else [])


@pytest.mark.parametrize('kind', KINDS)
def test_state_dicts_there_and_back(kind):
    def made():
        convs = nn.Conv2d(1, 6, 3, padding=1), nn.ConvTranspose2d(6, 4, 2, 2), nn.Conv2d(4, 4, 3, padding=1)
        return nn.Sequential(convs[0], nn.BatchNorm2d(6), *convs[1:])
    net, other = made(), made()
    back = state_2d(load_2d(convert(net, kind, depth_stride='2'), other.state_dict()))
    assert back.keys() == other.state_dict().keys()
    for k, v in other.state_dict().items(): torch.testing.assert_close(back[k], v)
    with pytest.raises(ValueError, match='missing .*left over'): load_2d(convert(net, kind), {'extra': torch.zeros(1)})


@pytest.mark.parametrize('phases', [1, 2, 4])
def test_equal_phases_are_one(phases):
    net = nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
    x = torch.randn(1, 1, 5, 16, 16)
    for kind in ('slicewise', 'acs'):
        one, rgb = convert(adapt_first_conv(net, 1), kind), convert(net, kind)
        same(convert(adapt_first_conv(net, phases), kind)(x.repeat(1, phases, 1, 1, 1)), one(x))
        same(rgb(x.repeat(1, 3, 1, 1, 1)), one(x))


def test_st3d_in_a_network_with_random_temporal_kernels_starts_as_the_2d_one():
    first = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()
    chain = nn.Sequential(*first, nn.Conv2d(6, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 3, 1)).eval()
    x = torch.randn(1, 2, 5, 8, 8)
    wide = convert(chain, 'st3d', fuse=False)
    assert wide[0].temporal.weight.abs().min() > 0 and wide[3].spatial.in_channels == 12
    same(wide(x), per_slice(chain, x))
    wide.train()(x).sum().backward()
    assert wide[5].weight.grad[:, 5:].abs().sum() > 0  # the new columns learn
    with pytest.raises(ValueError, match='concatenates'): convert(Custom(), 'st3d', fuse=False)
    with pytest.raises(ValueError, match='wider'): state_2d(wide)


def net_of(*layers, forward): # a module whose forward is `forward(layers, x)`
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.l = nn.ModuleList(layers)
        def forward(self, *a, **k): return forward(self.l, *a, **k)
    return Net()


@pytest.mark.parametrize('depth', [1, 5])
def test_a_chain_that_ends_in_a_classifier(depth):
    pooled = nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    net = nn.Sequential(*pooled, nn.Linear(8, 3), nn.Softmax(dim=1), nn.BatchNorm1d(3)).eval()
    x = torch.randn(2, 1, depth, 8, 8)
    same(convert(net, 'slicewise')(x), torch.stack([net(s) for s in x.unbind(2)], 1))
    assert convert(net, 'acs')(x).shape == (2, depth, 3)


@pytest.mark.parametrize('reentrant', [True, False])
@pytest.mark.parametrize('kind', ['slicewise', 'acs', 'i3d'])
def test_gradient_checkpointing(kind, reentrant):
    from torch.utils.checkpoint import checkpoint
    layers = nn.Conv2d(1, 6, 3, padding=1), nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
    x, grads = torch.randn(2, 1, 3, 8, 8), []
    def plain(l, x): return l[1](l[0](x))
    def saving(l, x): return checkpoint(l[1], l[0](x), use_reentrant=reentrant)
    for forward in (saving, plain):
        net = convert(net_of(*layers, forward=forward), kind)
        net(x).square().mean().backward()
        grads.append([p.grad for p in net.parameters()])
    for a, b in zip(*grads): same(a, b)


def test_five_axes_inside_a_network():
    "A selective-kernel block stacks its branches and hands them to a child."
    class Choice(nn.Module):
        def forward(self, x): return (x * x.mean((3, 4), keepdim=True).softmax(1)).sum(1)
    branches = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(2, 6, 5, padding=2)
    def forward(l, x): return l[3](l[2](torch.stack([l[0](x), l[1](x)], 1)))
    net = net_of(*branches, Choice(), nn.Conv2d(6, 2, 1), forward=forward)
    x = torch.randn(2, 2, 5, 8, 8)
    same(convert(net, 'slicewise')(x), per_slice(net, x))


@pytest.mark.parametrize('kernel', [2, 4])
def test_one_sided_padding_of_even_kernels(kernel):
    conv, x = nn.Conv2d(2, 3, kernel, padding='same'), torch.randn(1, 2, 4, 8, 8)
    for kind in KINDS: same(convert(conv, kind)(x), per_slice(conv, x))


def test_slices_that_are_mixed_are_an_error():
    net = convert(net_of(nn.Conv2d(1, 4, 3, padding=1), forward=lambda l, x: l[0](torch.cat([x, x]))), 'i3d')
    with pytest.raises(ValueError, match=r'l.0 is given 20 slices, where 2 volumes have \[5\] each'):
        net(torch.randn(2, 1, 5, 6, 6))
    with pytest.raises(ValueError, match=r'takes volumes \(B, C, D, H, W\), got \(2, 1, 6, 6\)'):
        net(torch.randn(2, 1, 6, 6))


def test_arguments_by_name_and_output_sizes():
    def forward(l, x): return l[1](l[0](input=x), output_size=x.shape[-2:])
    net = net_of(nn.Conv2d(1, 4, 3, 2, 1), nn.ConvTranspose2d(4, 3, 3, 2, 1), forward=forward)
    x = torch.randn(2, 1, 5, 9, 8)
    same(convert(net, 'slicewise')(x), per_slice(net, x))
    assert convert(net, 'i3d')(x).shape == (2, 3, 5, 9, 8)


def test_several_inputs_and_outputs():
    def forward(l, pair, gain=1.):
        return [(l[0](pair[0]) * gain, l[1](pair[1])), dict(mean=pair[0].mean((1, 2, 3)))]
    net = net_of(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(2, 4, 3, padding=1), forward=forward)
    a, b = torch.randn(2, 1, 5, 8, 8), torch.randn(2, 2, 5, 8, 8)
    (u, v), rest = convert(net, 'st3d')([a, b], gain=2.)
    same(u, per_slice(net.l[0], a) * 2)
    same(v, per_slice(net.l[1], b))
    same(rest['mean'], a.mean((1, 3, 4)))


@pytest.mark.parametrize('spoil, says', [
    (lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 1, 3)),
     'the network is a Parametrized.*computed from others'),
    (lambda: nn.Sequential(prune.identity(nn.Conv2d(1, 1, 3), 'weight')),
     '0 is a Conv2d whose weight is computed from others'),
    (lambda: nn.Sequential(ACSConv3d(1, 1, 3)), '0 is a ACSConv3d: only 2D')])
def test_what_cannot_be_converted_is_named(spoil, says):
    with pytest.raises(ValueError, match=says): convert(spoil())


def test_layers_that_would_come_apart_are_refused():
    tied = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match='0 and 1 are two layers with one weight'): convert(tied)
    listed = nn.Module()
    listed.a = nn.Conv2d(1, 1, 3)
    listed.all = [listed.a]
    with pytest.raises(ValueError, match='plain list'): convert(listed)
    conv = nn.Conv2d(2, 2, 3, padding=1)
    with pytest.raises(ValueError, match='0 and 2 are one layer, but their kinds are acs and slicewise'):
        convert(nn.Sequential(conv, nn.ReLU(), conv), {'0': 'acs'})
    with pytest.raises(ValueError, match='the kind of 1 is None'):
        convert(nn.Sequential(nn.ReLU(), conv), lambda name: None)


def test_pools_over_the_volume_fit_a_squeeze_block():
    def forward(l, x): return (y := l[0](x)) * l[2](l[1](y)).sigmoid()
    net = net_of(nn.Conv2d(1, 6, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 6, 1), forward=forward)
    x = torch.randn(2, 1, 5, 8, 8)
    new = convert(net, 'slicewise', volume_pools=True)
    y = per_slice(net.l[0], x)
    pooled = y.mean((2, 3, 4), keepdim=True)
    same(new(x), y * F.conv3d(pooled, net.l[2].weight.unsqueeze(2), net.l[2].bias).sigmoid())


def test_half_precision_and_second_derivatives():
    layer, x = ACSConv3d(16, 20, 3, padding=1).float(), torch.randn(1, 16, 4, 6, 6, dtype=torch.float32)
    with torch.autocast('cpu', torch.bfloat16): assert layer(x).dtype == torch.bfloat16
    layer, x = layer.double(), x.double().requires_grad_()
    g, = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    assert torch.autograd.grad(g.sum(), layer.weight)[0].abs().sum() > 0
    def loss(weight):
        parameters = dict(weight=weight, bias=layer.bias.detach())
        return torch.func.functional_call(layer, parameters, (x.detach(),)).square().sum()
    truth, = torch.autograd.grad(layer(x.detach()).square().sum(), layer.weight)
    same(torch.func.grad(loss)(layer.weight.detach()), truth)


def test_a_converted_network_compiles():
    net, x = convert(Custom(), 'acs').eval(), torch.randn(2, 2, 3, 6, 6)
    with torch.no_grad(): same(torch.compile(net, backend='eager')(x)['map'], net(x)['map'])


@pytest.mark.parametrize('name', ['unet', 'attention', 'segresnet', 'efficientnet'])
def test_networks_of_monai(name):
    from monai.networks import nets
    build = dict(
        unet=lambda: nets.UNet(2, 1, 2, (8, 16, 24), (2, 2), num_res_units=2, norm='batch'),
        attention=lambda: nets.AttentionUnet(2, 1, 2, (8, 16), (2,)),
        segresnet=lambda: nets.SegResNet(2, init_filters=8, blocks_down=(1, 1), blocks_up=(1,)),
        efficientnet=lambda: nets.EfficientNetBN('efficientnet-b0', pretrained=False, spatial_dims=2, in_channels=1,
                                                 num_classes=3))
    net = build[name]().double().eval()
    x = torch.randn(2, 1, 3, 32, 32)
    truth = torch.stack([net(s) for s in x.unbind(2)], 1 if name == 'efficientnet' else 2)
    torch.testing.assert_close(convert(net, 'slicewise')(x), truth, rtol=1e-8, atol=1e-8)
    assert convert(net, 'acs')(x).shape == truth.shape


def test_the_full_third_block_inflated_holds_the_2d_answer_24_slices_from_the_ends():
    flat = densenet2d().eval()
    net = convert(flat, {'denseblock3.*': 'i3d'}, slices=False)
    level = torch.randn(1, 1, 1, 32, 32).expand(-1, -1, 53, -1, -1)
    with torch.no_grad(): answer, truth = net(level), per_slice(flat, level)
    torch.testing.assert_close(answer[:, :, 24:-24], truth[:, :, 24:-24], rtol=1e-7, atol=1e-9)
    assert (answer[:, :, 0] - truth[:, :, 0]).abs().max() > 1e-3
