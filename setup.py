"Package metadata; names, version and requirements are read from settings.ini."
import re
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

ROOT = Path(__file__).parent
config = ConfigParser(delimiters=['='])
config.read(ROOT/'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']


def long_description():
    "The README with links and pictures that work outside the repository."
    readme = (ROOT/'README.md').read_text(encoding='utf-8')
    raw = cfg['git_url'].replace('github.com', 'raw.githubusercontent.com')
    readme = re.sub(r'(!\[[^]]*\]\()(?!https?:)', rf"\1{raw}/{cfg['branch']}/", readme)
    return re.sub(r'(?<!!)(\[[^]]*\]\()(?!https?:|#)', rf"\1{cfg['git_url']}/blob/{cfg['branch']}/", readme)


setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    keywords=cfg['keywords'],
    author=cfg['author'],
    url=cfg['git_url'],
    license='Apache-2.0',
    license_files=['LICENSE'],
    long_description=long_description(),
    long_description_content_type='text/markdown',
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg['requirements'].split(),
    extras_require={'dev': cfg['dev_requirements'].split()},
    packages=[*find_packages(include=['lesionlab*']), 'lesionlab.notebooks'],
    package_dir={'lesionlab.notebooks': 'nbs'},  # the experiment notebooks, at the top level of nbs/
    include_package_data=False,  # what is listed here, and nothing else
    package_data={
        'lesionlab': ['py.typed', '**/*.pyi', '**/*.html', '**/*.j2', 'weights/*', 'experiments/*.json'],
        'lesionlab.notebooks': ['*.ipynb'],
    },
    entry_points={
        'console_scripts': cfg['console_scripts'].split(),
        'nbdev': [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"],
    },
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Medical Science Apps.',
    ],
    zip_safe=False,
)
