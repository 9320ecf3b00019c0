# What `import lesionlab as ll` gives: read by lazy_loader when the package is imported, and by type checkers.
from .annotations.io import read_annotations as read_annotations
from .annotations.table import Lesions as Lesions
from .apps.evaluate import evaluate as evaluate
from .ct.io import read_image as read_image
from .detectors.registry import detector_names as detector_names
from .detectors.registry import load_detector as load_detector, make_detector as make_detector
from .detectors.stacking import stack as stack
from .engine.inference import predict as predict
from .evaluation.metrics import froc as froc
from .evaluation.p3d import p3d_evaluate as p3d_evaluate
from .harvesting.mining import harvest as harvest
from .nets.convolutions import ACSConv3d as ACSConv3d, ST3DConv as ST3DConv
from .nets.pseudo3d import convert as convert
from .phantom.insertion import insert_lesions as insert_lesions
from .viz.scenes import scene as scene
from .viz.slices import show as show

__version__: str
