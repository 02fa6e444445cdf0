"""A local server that speaks TF Serving's REST API, for people without Docker.

`serve(directory)` answers at TF Serving's paths, with its JSON, its errors and its
version policy, so that a client written against one works with the other. From the
model to the socket:

    limits        limits on a request, how requests are batched, the error for clients
    pictures      refuses bad or too large pictures by their headers
    servable      one loaded version: predict, classify, in shared batches
    manager       the versions of a model: which are loaded, and which one answers
    workers       bounds the requests in progress and their time; metrics
    examples      examples and pictures in requests, for models that parse them
    classify      classify and regress, for signatures that take examples
    json_text     JSON text to values, as RapidJSON reads it
    json_values   JSON values to arrays and back: numbers, strings, base64
    json_bodies   JSON bodies: requests to tensors or examples, outputs to answers
    bodies        reads and uncompresses bodies, within bounds of memory and time
    connections   closes connections whose requests do not begin or do not end
    rest          the REST API as an ASGI application, with a page for people
    startup       loads, listens, and stops on signals

Only json_*, bodies, connections, rest and startup know that requests arrive as JSON
over HTTP.
"""

from keras_inception.server.limits import Batching, Limits
from keras_inception.server.manager import Manager
from keras_inception.server.rest import build_app
from keras_inception.server.startup import serve

__all__ = ["Batching", "Limits", "Manager", "build_app", "serve"]
