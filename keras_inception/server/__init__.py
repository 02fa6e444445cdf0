"""A local server that speaks TF Serving's REST API, for people without Docker.

`serve(directory)` answers at TF Serving's paths, with its JSON, its errors and its
version policy, so that a client written against one works with the other. From the
model to the socket:

    limits          limits on a request, and how requests are batched
    errors          errors with their HTTP status
    pictures        refuses bad or too large pictures by their headers
    batching        TensorFlow's batch function around a signature
    servable        one loaded version: predict, classify
    manager         the versions of a model: which are loaded, and which one answers
    json_values     JSON values to arrays and back: numbers, strings, base64
    json_request    a JSON body to tensors or examples
    json_response   tensors to a JSON body
    rest            paths and bodies of the REST API to answers, without HTTP
    workers         bounds the requests in progress, their time and their bodies
    metrics         metrics for Prometheus
    app             HTTP: the ASGI application, with a page for people
    startup         loads, listens, and stops on signals

Only json_*, rest, app and startup know that requests arrive as JSON over HTTP.
"""

from keras_inception.server.app import build_app
from keras_inception.server.limits import Batching, Limits
from keras_inception.server.manager import Manager
from keras_inception.server.startup import serve

__all__ = ["Batching", "Limits", "Manager", "build_app", "serve"]
