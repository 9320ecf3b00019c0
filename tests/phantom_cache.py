"""Each synthetic CT is made once for all tests: notebooks and fixtures ask for the same few hundred again and again.
The tests of the wing `phantom` make their own."""
import hashlib
import os
import pickle
from functools import wraps
from inspect import signature
from pathlib import Path

from lesionlab.phantom import dataset, liver

enabled = True


def cached(make):
    "A function whose results are kept in the folder LESIONLAB_TEST_CACHE, shared by all processes."
    @wraps(make)
    def made_once(*args, **kwargs):
        if not enabled: return make(*args, **kwargs)
        call = repr((make.__name__, signature(make).bind(*args, **kwargs).arguments))
        path = Path(os.environ['LESIONLAB_TEST_CACHE'])/hashlib.sha1(call.encode()).hexdigest()
        if path.exists(): return pickle.loads(path.read_bytes())
        result = make(*args, **kwargs)
        part = path.with_suffix(f'.{os.getpid()}')
        part.write_bytes(pickle.dumps(result))
        os.replace(part, path)
        return result
    return made_once


dataset.phantom, liver.multiphase = cached(dataset.phantom), cached(liver.multiphase)
