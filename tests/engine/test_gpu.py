"On CUDA a detector finds what it finds on the CPU."
import pytest
import torch

from lesionlab.annotations.boxes import iou3d
from lesionlab.detectors.registry import detector_names, load_detector, make_detector
from lesionlab.engine.inference import predict
from lesionlab.phantom.dataset import phantom

pytestmark = pytest.mark.gpu


def test_boxes_of_the_demo_weights_are_those_of_the_cpu():
    "bfloat16 moves scores in the third digit, so the best boxes are compared, not their order."
    volume, model = phantom(0, 3).volume, load_detector('demo')
    slow = predict(model, volume)[:3]
    fast = predict(model.cuda(), volume)
    assert (iou3d(slow.boxes, fast.boxes.cpu()).max(1).values > .8).all()


@pytest.mark.parametrize('name', detector_names())
def test_maps_on_cuda_are_finite(name):
    torch.manual_seed(0)
    model = make_detector(name, 'tiny').cuda()
    maps = model(torch.rand(1, 1, 9, 64, 64, device='cuda'))
    assert all(torch.isfinite(m).all() for m in maps.values())
