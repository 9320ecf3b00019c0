"Pretrained weights: every tensor counted, every failure one clear sentence."
import re
from urllib.error import URLError
import huggingface_hub, pytest, torch
from monai.networks.nets import DenseNet121
from safetensors.torch import save_file

from lesionlab.core import DataError
from lesionlab.nets.layers import KINDS
from lesionlab.nets.pseudo3d import adapt_input
from lesionlab.nets.backbones import Trunk, build_backbone, densenet2d
from lesionlab.nets.pretrained import load_trunk, read_weights
from lesionlab.nets import pretrained
from lesionlab.detectors.registry import make_detector, save_detector


def same(a, b): torch.testing.assert_close(a, b)


@pytest.fixture(scope='module')
def imagenet():
    "The true names (timm's) and shapes of DenseNet-121, other numbers."
    torch.manual_seed(0)
    state = DenseNet121(2, 3, 1000).state_dict()
    return {k.replace('layers.', '').replace('class_out', 'classifier'): v for k, v in state.items()}


@pytest.mark.parametrize('kind', KINDS)
def test_every_tensor_of_the_trunk_is_loaded(tmp_path, imagenet, kind, capsys):
    save_file(imagenet, tmp_path/'model.safetensors')
    trunk = Trunk(kind)
    report = load_trunk(trunk, tmp_path/'model.safetensors')
    flat = densenet2d(3)
    assert report.loaded == len(flat.state_dict()) and not report.missing
    assert report.loaded + sum(report.left_out.values()) == len(imagenet)
    assert f'model.safetensors: {report.loaded} tensors loaded, 0 missing' in capsys.readouterr().out
    conv = dict(trunk.named_modules())['block3.denselayer24.layers.conv2']
    weight = (conv.spatial if kind == 'st3d' else conv).weight
    flat_weight = weight.sum(2) if weight.dim() == 5 else weight
    same(flat_weight, imagenet['features.denseblock3.denselayer24.conv2.weight'])
    same(trunk.stem.conv0.weight.squeeze(2), adapt_input(imagenet['features.conv0.weight'], 1))
    same(trunk.block2.denselayer3.layers.norm1.weight, imagenet['features.denseblock2.denselayer3.norm1.weight'])


@pytest.mark.parametrize('kind', KINDS)
def test_a_trunk_of_four_blocks_loads_block_4(tmp_path, imagenet, kind):
    save_file(imagenet, tmp_path/'model.safetensors')
    trunk = Trunk(kind, blocks=(6, 12, 24, 16))
    report = load_trunk(trunk, tmp_path/'model.safetensors')
    assert not report.missing and set(report.left_out) == {'norm5', 'classifier'}
    conv = trunk.block4.denselayer16.layers.conv2
    weight = (conv.spatial if kind == 'st3d' else conv).weight
    flat_weight = weight.sum(2) if weight.dim() == 5 else weight
    same(flat_weight, imagenet['features.denseblock4.denselayer16.conv2.weight'])
    same(trunk.transition3.conv.weight.squeeze(2), imagenet['features.transition3.conv.weight'])


def test_block_4_goes_from_run_to_run_where_both_keep_it(tmp_path):
    four = dict(growth=4, stem_channels=8, blocks=(2, 2, 3, 2))
    three = four | dict(blocks=(2, 2, 3))
    source = make_detector('vld_acs_spr', 'tiny', **four)
    save_detector(source, tmp_path/'four.safetensors')
    save_detector(make_detector('vld_acs_spr', 'tiny', **three), tmp_path/'three.safetensors')
    other = Trunk('i3d', **four)
    load_trunk(other, tmp_path/'four.safetensors')
    weight = other.block4.denselayer2.layers.conv2.weight
    same(weight.sum(2), source.trunk.block4.denselayer2.layers.conv2.weight)
    report = load_trunk(Trunk('acs', **three), tmp_path/'four.safetensors')
    assert not report.missing and report.left_out['block4'] and report.left_out['transition3']
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(DataError, match=r'missing \(.* of block4, .* of transition3\)'):
        load_trunk(other, tmp_path/'three.safetensors')
    assert all(torch.equal(before[k], v) for k, v in other.state_dict().items())


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_colours_and_phases(tmp_path, imagenet, channels):
    torch.save(imagenet, tmp_path/'w.pth')
    trunk = Trunk('acs', channels)
    load_trunk(trunk, tmp_path/'w.pth')
    rgb = imagenet['features.conv0.weight']
    wanted = rgb if channels == 3 else adapt_input(rgb, channels)
    same(trunk.stem.conv0.weight.squeeze(2), wanted)


def test_another_networks_trunk(tmp_path):
    "VLD starts from the trunk of Lesion Harvester's 2.5D network, of any kind from any other."
    small = dict(growth=4, stem_channels=8, blocks=(2, 2, 3))
    slices = build_backbone('2.5d', 16, **small)
    save_file(slices.state_dict(), tmp_path/'slices.safetensors')
    trunk = Trunk('acs', **small)
    load_trunk(trunk, tmp_path/'slices.safetensors')
    weight = slices.trunk.block3.denselayer1.layers.conv2.weight
    same(trunk.block3.denselayer1.layers.conv2.weight, weight.squeeze(2))
    for kind in KINDS:
        model = make_detector('vld_acs_spr', 'tiny', backbone=kind)
        save_detector(model, tmp_path/'run.safetensors')
        other = make_detector('vld_acs_spr', 'tiny', backbone='acs')
        load_trunk(other, tmp_path/'run.safetensors')
        same(other.trunk.stem.conv0.weight, model.trunk.stem.conv0.weight)
        twin = make_detector('vld_acs_spr', 'tiny', backbone=kind)
        load_trunk(twin, tmp_path/'run.safetensors')
        loaded = twin.trunk.state_dict()
        for k, v in model.trunk.state_dict().items(): same(loaded[k], v) # of one kind: temporal kernels, too


@pytest.mark.parametrize('hub', ['torchvision', 'huggingface'])
def test_without_a_network_the_error_says_what_to_fetch(tmp_path, monkeypatch, hub):
    def offline(*_, **__): raise URLError('no network')
    monkeypatch.setattr(torch.hub, 'download_url_to_file', offline)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    def not_cached(*_): raise huggingface_hub.errors.LocalEntryNotFoundError('offline')
    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', not_cached)
    place = re.escape(pretrained.HUBS['densenet121'][hub])
    with pytest.raises(DataError, match=f'{place}.*fetch it elsewhere and give its path'): read_weights(hub)
    assert not list(tmp_path.rglob('*.pth'))


def test_a_hubs_file_is_read_from_the_cache(tmp_path, monkeypatch, imagenet):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    (tmp_path/'checkpoints').mkdir()
    torch.save(imagenet, tmp_path/'checkpoints'/'densenet121-a639ec97.pth')
    assert read_weights('torchvision').keys() == imagenet.keys()


@pytest.mark.parametrize('spoil, says', [
    (lambda w: {}, 'holds no tensors'),
    (lambda w: {k: v for k, v in w.items() if 'transition1' not in k}, 'transition1.conv.weight'),
    (lambda w: w | {'features.denseblock1.denselayer1.conv1.weight': torch.zeros(2, 2, 1, 1)}, 'of another shape'),
    (lambda w: w | {'features.denseblock3.denselayer25.conv1.weight': torch.zeros(1)}, 'left over')])
def test_weights_that_do_not_fit(tmp_path, imagenet, spoil, says):
    torch.save(spoil(imagenet), tmp_path/'w.pth')
    trunk = Trunk('acs')
    before = {k: v.clone() for k, v in trunk.state_dict().items()}
    with pytest.raises(DataError, match='w.pth.*' + says): load_trunk(trunk, tmp_path/'w.pth')
    assert all(torch.equal(before[k], v) for k, v in trunk.state_dict().items()) # nothing half loaded


def test_a_pickle_of_anything_else_is_refused(tmp_path):
    import pickle
    class Evil:
        def __reduce__(self): return print, ('run',)
    (tmp_path/'w.pth').write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DataError, match="w.pth: can't be read as weights"): read_weights(tmp_path/'w.pth')
