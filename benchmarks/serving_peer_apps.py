"""A picture classifier in LitServe and in FastAPI, for `benchmarks.serving_peers`.

    PYTHON benchmarks/serving_peer_apps.py fastapi MODEL.onnx PORT
    PYTHON benchmarks/serving_peer_apps.py litserve MODEL.onnx PORT
    PYTHON benchmarks/serving_peer_apps.py litserve-batches MODEL.onnx PORT

As their guides write such servers: Pillow decodes, ONNX Runtime computes. PYTHON has
fastapi, uvicorn, litserve, onnxruntime and pillow, and needs nothing of this project.
POST {"b64": "..."} to /predict; the answer is {"scores": [...], "classes": [...]}.
"""

import base64
import io
import sys

import fastapi
import litserve
import numpy as np
import onnxruntime
import pydantic
import uvicorn
from PIL import Image

TOP = 5
RESIZED = 256 / 224  # the shorter side, as a multiple of the crop's


class Classifier:
    """An ONNX file, from the bytes of pictures to the best classes."""

    def __init__(self, path: str):
        self.session = onnxruntime.InferenceSession(path)
        self.size = self.session.get_inputs()[0].shape[1]

    def pixels(self, encoded: str) -> np.ndarray:
        """Decodes a picture; large ones are resized and their center is cropped."""
        picture = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
        size = self.size
        if picture.size != (size, size):
            scale = RESIZED * size / min(picture.size)
            width, height = (max(size, round(scale * side)) for side in picture.size)
            picture = picture.resize((width, height), Image.BILINEAR)
            left, top = (width - size) // 2, (height - size) // 2
            picture = picture.crop((left, top, left + size, top + size))
        return np.asarray(picture, "float32")

    def scores(self, images: np.ndarray) -> np.ndarray:
        return self.session.run(["main"], {"images": images})[0]


def best(scores: np.ndarray) -> dict:
    """The best classes of a picture, as JSON."""
    classes = np.argsort(-scores)[:TOP]
    return {"classes": classes.tolist(), "scores": scores[classes].tolist()}


class Body(pydantic.BaseModel):
    """A request."""

    b64: str


class Api(litserve.LitAPI):
    """LitServe's hooks, for one picture at a time or for batches."""

    def __init__(self, path: str, **batches):
        super().__init__(**batches)
        self.path = path

    def setup(self, device):
        """Loads the file in the worker process."""
        self.classifier = Classifier(self.path)

    def decode_request(self, request):
        """A picture's pixels."""
        return self.classifier.pixels(request["b64"])

    def batch(self, inputs):
        """Joins pictures."""
        return np.stack(inputs)

    def predict(self, images):
        """Scores of a picture or of a batch."""
        if images.ndim == 3:
            return self.classifier.scores(images[None])[0]
        return self.classifier.scores(images)

    def unbatch(self, output):
        """Divides a batch's scores."""
        return list(output)

    def encode_response(self, scores):
        """The answer's JSON."""
        return best(scores)


def run_fastapi(path: str, port: int) -> None:
    """FastAPI on uvicorn, requests in its pool of threads."""
    classifier, app = Classifier(path), fastapi.FastAPI()

    @app.post("/predict")
    def predict(body: Body) -> dict:
        return best(classifier.scores(classifier.pixels(body.b64)[None])[0])

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


def run_litserve(path: str, port: int, **batches) -> None:
    """LitServe with one worker process."""
    server = litserve.LitServer(Api(path, **batches), accelerator="cpu")
    server.run(host="127.0.0.1", port=port, generate_client_file=False)


if __name__ == "__main__":
    kind, path, port = sys.argv[1:]
    if kind == "fastapi":
        run_fastapi(path, int(port))
    elif kind == "litserve":
        run_litserve(path, int(port))
    else:
        run_litserve(path, int(port), max_batch_size=8, batch_timeout=0.005)
