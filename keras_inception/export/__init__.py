"""SavedModels for TF Serving, and other formats: the main output alone, labels inside.

`saved_models/NAME/VERSION/` appears whole, by rename, after its own warm-up requests
have been answered by what was written.
"""

from keras_inception.export.classifier import load_classifier
from keras_inception.export.formats import FORMATS, export_format, open_file
from keras_inception.export.saved_model import export_saved_model
from keras_inception.export.versioning import prune, rollback, versions

__all__ = [
    "FORMATS",
    "export_format",
    "export_saved_model",
    "load_classifier",
    "open_file",
    "prune",
    "rollback",
    "versions",
]
