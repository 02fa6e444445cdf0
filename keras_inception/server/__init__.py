"""A local server that speaks TF Serving's APIs, for people without Docker.

`serve(directory)` answers at TF Serving's paths, with its JSON, its gRPC services, its
errors, its configuration files and its version policy, so that a client written against
one works with the other. From the model to the sockets:

    limits          limits on a request, how requests are batched, the error for clients
    pictures        refuses bad or too large pictures by their headers
    graph_ops       finds out whether a graph decodes pictures or parses examples
    batch_queue     combines the rows of concurrent calls
    saved_models    loads a SavedModel as TF Serving does
    runtime_files   loads what `export --format` wrote
    runtimes        recognizes which of the two a version is for
    depth           answers earlier, at a version's exits, when requests wait
    servable        one loaded version, which predicts in shared batches
    classify        classify and regress, for signatures that take examples
    version_policy  which versions are there, and which are to be served
    manager         the versions of a model: which are loaded, and which one answers
    models          the models by name
    model_config    TF Serving's configuration files
    workers         bounds the requests in progress and their time
    metrics         counts and times of requests
    json_text       JSON text to values, as RapidJSON reads it
    json_values     JSON values to arrays and back: numbers, strings, base64
    json_bodies     JSON bodies: requests to tensors or examples, outputs to answers
    explanations    where each output of a `.keras` file looks, for the page
    bodies          reads and uncompresses bodies, within bounds of memory and time
    connections     closes connections whose requests do not begin or do not end
    rest            the REST API as an ASGI application, with a page for people
    grpc_tensors    TensorProto messages to arrays and back
    grpc_messages   gRPC's messages: requests to models, answers to messages
    grpc_reading    reads gRPC's messages, within bounds of memory and time
    grpc_service    the gRPC services
    addresses       sockets, ports and certificates
    startup         loads, listens, and stops on signals

Only `json_*`, `bodies`, `connections`, `rest` and `startup` know that requests arrive
as JSON over HTTP, and only `grpc_*` and `startup` that they arrive over gRPC.
"""

from keras_inception.server.limits import Batching, Limits
from keras_inception.server.manager import Manager
from keras_inception.server.model_config import read_batching, read_metrics_path
from keras_inception.server.models import Models
from keras_inception.server.rest import build_app
from keras_inception.server.startup import serve
from keras_inception.server.version_policy import ModelConfig

__all__ = [
    "Batching",
    "Limits",
    "Manager",
    "ModelConfig",
    "Models",
    "build_app",
    "read_batching",
    "read_metrics_path",
    "serve",
]
