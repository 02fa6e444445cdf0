"""A local server that speaks TF Serving's REST API, for people without Docker.

`serve(directory)` answers at TF Serving's paths, with its JSON, its errors and its
version policy, so that a client written against one works with the other:

    limits       what a request may cost
    errors       what went wrong, with its HTTP status
    json_tensor  requests and answers: TF Serving's rules for JSON
    servable     one loaded version; requests are batched by TensorFlow
    manager      which versions are loaded, and who gets which
    app          HTTP: paths, body, deadlines, metrics, a page for people
"""

from keras_inception.server.app import build_app, serve
from keras_inception.server.limits import Batching, Limits
from keras_inception.server.manager import Manager

__all__ = ["Batching", "Limits", "Manager", "build_app", "serve"]
