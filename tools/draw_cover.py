"""Draw docs/images/cover.png: detections of the shipped weights on a held-out CT of the sarcoma set, beside the scene.

    python tools/draw_cover.py ../shared/data/ct sts_038

The name is one of the six patients that training of `sarcoma` left out. Needs Chromium for the 3D scene."""
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import Patch

import lesionlab as ll
from lesionlab.annotations.boxes import iou3d
from lesionlab.annotations.table import from_mask
from lesionlab.ct.volume import window_hu
from lesionlab.viz.slices import FOUND, TRUTH

COVER = Path(__file__).parents[1]/'docs'/'images'/'cover.png'
WIDTH, HEIGHT, DPI = 12., 5.2, 100
CHROMIUM = ('chromium', '--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--use-angle=swiftshader',
    '--enable-unsafe-swiftshader', '--hide-scrollbars', '--virtual-time-budget=20000')


def photograph(figure, width, height):
    "An interactive figure as an array of pixels, drawn by Chromium."
    with tempfile.TemporaryDirectory() as folder:
        page, picture = Path(folder)/'scene.html', Path(folder)/'scene.png'
        figure.write_html(page, include_plotlyjs=True, config=dict(displayModeBar=False))
        subprocess.run([*CHROMIUM, f'--window-size={width},{height}', f'--screenshot={picture}', page.as_uri()],
            check=True, capture_output=True)
        return plt.imread(picture)


def draw_slice(ax, volume, truth, found):
    "The axial slice through the middle of the truth, with boxes, scores and surface points."
    z = int((truth.boxes[0, 0] + truth.boxes[0, 3]) / 2)
    ax.imshow(window_hu(volume.array[z], 'soft tissue'), cmap='gray', vmin=0, vmax=1, interpolation='bilinear')
    for lesions, color in ((truth, TRUTH), (found, FOUND)):
        for box, score in zip(lesions.boxes.tolist(), lesions.scores.tolist()):
            if not box[0] <= z < box[3]: continue
            y, x, h, w = box[1], box[2], box[4] - box[1], box[5] - box[2]
            ax.add_patch(plt.Rectangle((x - .5, y - .5), w, h, fill=False, ec=color, lw=2.5))
            if color == FOUND: ax.text(x + 2, y + 2, f'{score:.2f}', color=FOUND, fontsize=13, va='top', weight='bold')
    ax.set_axis_off()
    handles = [Patch(fc='none', ec=c, lw=2, label=n) for c, n in ((TRUTH, 'ground truth'), (FOUND, 'detection, score'))]
    ax.legend(handles=handles, loc='lower left', fontsize=11, framealpha=.8)


def main(folder, name):
    "Predict, draw, write."
    volume = ll.read_image(f'{folder}/imagesTr/{name}.nii.gz')
    mask = ll.read_image(f'{folder}/labelsTr/{name}.nii.gz')
    truth = from_mask(mask.array)
    found = ll.predict(ll.load_detector('sarcoma'), volume)[slice(1)]
    figure = ll.scene(volume, truth, found, mask=mask.array)
    figure.update_layout(height=int(HEIGHT * DPI), margin=dict(l=0, r=0, b=0, t=0))
    figure.update_layout(scene_camera_eye=dict(x=1.45, y=-1.45, z=.75))
    fig = plt.figure(figsize=(WIDTH, HEIGHT), dpi=DPI)
    draw_slice(fig.add_axes((0, 0, .45, 1)), volume, truth, found)
    scene = fig.add_axes((.45, 0, .55, 1))
    scene.imshow(photograph(figure, int(.55 * WIDTH * DPI), int(HEIGHT * DPI)))
    scene.set_axis_off()
    fig.savefig(COVER)
    iou = iou3d(found.boxes, truth.boxes).max()
    print(f'{COVER}: {COVER.stat().st_size / 1e3:.0f} kB; score {found.scores[0]:.2f}, IoU {iou:.2f}')


if __name__ == '__main__':
    if len(sys.argv) != 3: sys.exit('usage: python tools/draw_cover.py DECATHLON_FOLDER NAME')
    main(*sys.argv[1:])
