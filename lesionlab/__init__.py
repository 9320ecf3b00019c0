"Find lesions in CT volumes, and complete partly annotated data sets."
__version__ = "0.1.0"

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__) # the names are in __init__.pyi
